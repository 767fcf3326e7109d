//! td-pivot by itself.
#![no_main]
#![deny(unsafe_code)]

td::program!(pivot);
