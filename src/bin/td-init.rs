//! td-init, with td-exec within: behind td-pivot nothing lies beside it.
#![no_main]

td::program!(init: exec);
