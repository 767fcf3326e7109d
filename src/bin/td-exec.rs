//! td-exec, with td-init and the inner part of td-tty within: after td-pivot nothing lies beside it.
#![no_main]
#![deny(unsafe_code)]

td::program!(exec: init, tty::inner);
