//! td-mount by itself.
#![no_main]

td::program!(mount);
