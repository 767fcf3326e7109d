//! strace, and lines of strace and of `--trace` made comparable.
