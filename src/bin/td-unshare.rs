//! td-unshare by itself.
#![no_main]

td::program!(unshare);
