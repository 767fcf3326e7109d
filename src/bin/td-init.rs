//! td-init, with td-exec within: after td-pivot nothing lies beside it.
#![no_main]
#![deny(unsafe_code)]

td::program!(init: exec);
