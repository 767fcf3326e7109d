//! td-exec by itself.
#![no_main]

td::program!(exec);
