//! td-tty by itself.
#![no_main]
#![deny(unsafe_code)]

td::program!(tty);
