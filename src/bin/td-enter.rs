//! td-enter by itself.
#![no_main]

td::program!(enter);
