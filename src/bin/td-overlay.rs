//! td-overlay by itself.
#![no_main]
#![deny(unsafe_code)]

td::program!(overlay);
