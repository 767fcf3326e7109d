//! All tools in one program: `td pivot M sh`, or called by the name of a tool.
#![no_main]
#![deny(unsafe_code)]

td::program!(: cgroup, unshare, overlay, mount, pivot, exec, init, enter, lock, tty);
