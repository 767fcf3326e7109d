//! td-unshare.
mod common;
use common::*;

#[test]
fn becomes_prog() {
    run(&mut td("td-unshare", ["true"])).ok();
}

mod root {
    use super::common::*;

    #[test]
    fn a_new_mount_namespace_is_made() {
        private_mounts();
        let out = run(&mut td("td-unshare", ["-m", "readlink", "/proc/self/ns/mnt"])).ok().out();
        assert_ne!(out.trim(), ns("thread-self", "mnt"));
        let dir = TempDir::new();
        mount(["-t", "tmpfs", "tmpfs", dir.path().to_str().unwrap()]);
        image(&dir.dir("image"));
        run(std::process::Command::new("chroot")
            .arg(dir.join("image"))
            .args(["/bin/sh", "-c", "ls /"]))
        .ok();
        assert!(own_mountinfo().contains(dir.path().to_str().unwrap()));
        assert!(!host_mountinfo().contains(dir.path().to_str().unwrap()));
    }
}
