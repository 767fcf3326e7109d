//! td-exec, with td-init within: behind td-pivot nothing lies beside it.
#![no_main]

td::program!(exec: init);
