//! td-overlay by itself.
#![no_main]

td::program!(overlay);
