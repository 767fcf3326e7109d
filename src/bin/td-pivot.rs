//! td-pivot by itself.
#![no_main]

td::program!(pivot);
