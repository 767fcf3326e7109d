//! td-cgroup by itself.
#![no_main]

td::program!(cgroup);
