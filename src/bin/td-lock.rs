//! td-lock by itself.
#![no_main]

td::program!(lock);
