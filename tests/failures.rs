//! The README's table of failures: each is provoked here, and what is printed is what the table says.

mod common;

mod root {
    use std::process::Command;

    use super::common::*;

    /// Of each row, in its order: what the other program runs, and what td does. `{T}` is `/tmp/t` in the table.
    const ROWS: [(&str, &str); 10] = [
        (
            "mount --make-rshared / && pivot_root {T}/image {T}/image/mnt",
            "mount --make-rshared / && td-pivot {T}/image /bin/sh",
        ),
        (
            "mount -t overlay overlay -o lowerdir=/none,upperdir={T}/upper,workdir={T}/work /mnt",
            "td-overlay --lower /none --upper {T}/upper --work {T}/work /mnt true",
        ),
        ("mount -t overlay overlay -o lowerdir=/proc /mnt", "td-overlay --lower /proc /mnt true"),
        (
            "mount -t overlay overlay -o lowerdir={T}/image,upperdir={T}/upper,workdir={T}/upper/work /mnt",
            "td-overlay --lower {T}/image --upper {T}/upper --work {T}/upper/work /mnt true",
        ),
        (
            "cd {T} && runc spec && sed -i 's/\"terminal\": true/\"terminal\": false/; s#\"sh\"#\"/script\"#
                s#\"path\": \"rootfs\"#\"path\": \"image\"#' config.json && runc run failures-$$",
            "td-pivot {T}/image /script",
        ),
        (
            "mount -t tmpfs t /proc/bus && USER bwrap --unshare-all --bind / / --proc /proc true",
            "mount -t tmpfs t /proc/bus && USER {T}/td td-unshare -r -m -p td-mount --proc / true",
        ),
        (
            "unshare -r -m mount -t proc proc {T}/mnt",
            "td-unshare -r -m td-mount --proc {T}/mnt true",
        ),
        (
            "unshare -r sh -c 'echo 0 >/proc/sys/user/max_net_namespaces; unshare -n true'",
            "td-unshare -r sh -c 'echo 0 >/proc/sys/user/max_net_namespaces; td-unshare -n true'",
        ),
        ("USER unshare -m true", "USER {T}/td td-unshare -m true"),
        (
            "td-unshare --map-users 0:0:10 --map-groups 0:0:10 setpriv --reuid 1000 true",
            "td-unshare --map-users 0:0:10 --map-groups 0:0:10 td-exec --user 1000:0 true",
        ),
    ];

    /// What a line prints on standard error, in mounts of its own.
    fn printed(line: &str, dir: &TempDir) -> String {
        let user = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let line = line.replace("{T}", text(dir.path())).replace("USER", user);
        let path = format!("{}:{}", bin_dir().display(), std::env::var("PATH").expect("PATH"));
        let mut cmd = Command::new("unshare");
        cmd.args(["-m", "sh", "-c", &line]).env("PATH", path).env("LC_ALL", "C");
        let output = run(&mut cmd);
        assert_ne!(output.code, Some(0), "{output}");
        output.err().replace(text(dir.path()), "/tmp/t")
    }

    #[test]
    fn ten_failures_are_reported_as_the_readme_says() {
        private_mounts();
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(readme).expect("the README");
        let table = readme.split("| what is wrong | others | td |\n|---|---|---|\n").nth(1);
        let table = table.expect("the table").split("\n\n").next().expect("its rows");
        let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split("``").collect()).collect();
        assert_eq!(rows.len(), ROWS.len());
        let mut faults = Vec::new();
        for (row, (others, ours)) in rows.iter().zip(ROWS) {
            let dir = TempDir::new();
            chmod(dir.path(), 0o755);
            image(&dir.dir("image"));
            for name in ["image/mnt", "upper/work", "work", "mnt"] {
                dir.dir(name);
            }
            dir.program("image/script", "#!/nowhere/sh\n");
            dir.program("td", std::fs::read(bin("td")).expect("td"));
            for (line, said) in [(others, row[1]), (ours, row[3])] {
                let printed = printed(line, &dir);
                if line == others && printed.ends_with(": not found\n") {
                    println!("not installed: {printed}"); // scripts/test names what is missing
                    continue;
                }
                if !printed.lines().any(|line| line == said) {
                    faults.push(format!("{line}\n  README: {said}\n  printed: {printed}"));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}
