//! td-exec, with td-init within: after td-pivot nothing lies beside it.
#![no_main]
#![deny(unsafe_code)]

td::program!(exec: init);
