//! td-enter, with the inner part of td-tty within: in the root of a container nothing lies beside it.
#![no_main]
#![deny(unsafe_code)]

td::program!(enter: tty::inner);
