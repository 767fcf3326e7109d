//! Options that the programs before td have and td has not: each is answered, by a way that works.

mod common;

use std::collections::BTreeSet;

use common::*;
use td::cli::others::{self, Others};

/// The tables, by their tools.
const TABLES: [(&str, Others); 10] = [
    ("td-unshare", others::UNSHARE),
    ("td-enter", others::ENTER),
    ("td-exec", others::EXEC),
    ("td-lock", others::LOCK),
    ("td-mount", others::MOUNT),
    ("td-overlay", others::OVERLAY),
    ("td-pivot", others::PIVOT),
    ("td-init", others::INIT),
    ("td-tty", others::TTY),
    ("td-cgroup", others::CGROUP),
];

/// What the row of an option says that has no way.
const NOTHING: &str = "td does not have this";

/// The rows of a table: the options, and what is said of them.
fn rows(table: Others) -> impl Iterator<Item = (Vec<&'static str>, &'static str)> {
    table.lines().map(|row| {
        let (options, way) = row.split_once(": ").expect("a row");
        (options.split(' ').collect(), way)
    })
}

/// The options in a text.
fn options_in(text: &str) -> BTreeSet<&str> {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '/');
    text.split(is_end).filter(|word| word.len() > 1 && word.starts_with('-')).collect()
}

/// What the help of a tool lists.
fn listed(tool: &str) -> BTreeSet<String> {
    let help = run(&mut td(tool, ["--help"])).ok().out();
    let lines = help.lines().filter(|line| line.starts_with("  "));
    lines.flat_map(options_in).map(String::from).collect()
}

#[test]
fn every_option_of_a_table_is_answered_by_its_row() {
    for (tool, table) in TABLES {
        let mut seen = BTreeSet::new();
        for (options, way) in
            rows(table).chain([(vec!["-h"], "use --help"), (vec!["-V"], "use --version")])
        {
            for option in options {
                assert!(seen.insert(option), "{tool} {option}: two rows");
                let output = run(&mut td(tool, [option, "x", "true"])).exits(125);
                let expected = format!("{tool}: {option}: no such option\n{tool}: {way}\n");
                assert_eq!((output.err(), output.out()), (expected, String::new()));
            }
        }
    }
}

#[test]
fn an_option_with_a_value_in_its_word_is_answered_too() {
    for (tool, word, way) in [
        ("td-unshare", "--kill-child=TERM", "leave it out"),
        ("td-unshare", "-S0", "td-exec --user"),
        ("td-unshare", "-fp", "with --pid, a child becomes PROG"),
        ("td-exec", "--drop=cap_chown", "use --cap-keep LIST"),
        ("td-mount", "-tproc", "use --fs TYPE SRC DST"),
    ] {
        run(&mut td(tool, [word, "x", "true"])).exits(125).says(": no such option").says(way);
    }
}

/// Beside the tables: an option that nobody has, and one that only another table has.
#[test]
fn an_option_of_no_table_is_unknown() {
    for (tool, option) in [
        ("td-unshare", "--nothing"),
        ("td-unshare", "--forks"),
        ("td-unshare", "-t"),
        ("td-exec", "--fork"),
        ("td-tty", "-g"),
        ("td-lock", "--x: use"),
    ] {
        let output = run(&mut td(tool, [option, "x", "true"])).exits(125);
        output.says(": no such option\n").says(&format!("{tool}: see {tool} --help\n"));
    }
}

#[test]
fn a_tool_is_not_asked_for_an_option_that_it_has() {
    for (tool, table) in TABLES {
        let has = listed(tool);
        let options: Vec<&str> = rows(table).flat_map(|(options, _)| options).collect();
        let own: Vec<_> = options.iter().filter(|option| has.contains(**option)).collect();
        assert!(own.is_empty(), "{tool} has {own:?}");
    }
}

#[test]
fn every_option_that_a_row_names_is_one_of_the_tool_that_it_names() {
    for (tool, table) in TABLES {
        for (options, way) in rows(table) {
            // From the name of a tool on, options are that tool's. Before it, they are this tool's.
            let mut named = tool;
            for word in way.split([' ', ';', ',', ':']) {
                if word.starts_with("td-") {
                    named = word;
                } else if word.starts_with('-') && !way.contains("| tee") {
                    let option = word.split(['=', '\'']).next().unwrap_or_default();
                    let knows = listed(named).contains(option) || options.contains(&option);
                    assert!(knows, "{tool} {options:?}: {named} has no {option}");
                }
            }
        }
    }
}

/// PROG that is not found, and looks like an option: where the options have ended is said.
#[test]
fn an_option_behind_an_operand_is_found_to_be_one() {
    for (line, end) in [
        ("td-overlay --dry-run --lower / /tmp --work", None),
        ("td-lock / --wait 3 true", Some("the options of td-lock end at /")),
        ("td-lock -n / --wait 3 true", Some("the options of td-lock end at /")),
        ("td-lock / -- --wait", None),
        ("td-lock / nothing --wait", None),
        ("td-exec -- --wait", None),
        ("td-exec --hint=TEXT -- --wait", Some("TEXT")),
        ("td-exec --hint=TEXT nothing --wait", None),
    ] {
        let mut words = line.split(' ');
        let tool = words.next().expect("a tool");
        let output = run(&mut td(tool, words));
        let last = output.err().lines().last().unwrap_or_default().to_string();
        match end {
            Some(end) => {
                assert_eq!((output.code, &*last), (Some(127), &*format!("{tool}: {end}")), "{line}")
            }
            None => assert!(!last.contains("end at") && !last.contains("TEXT"), "{line}: {output}"),
        }
    }
}

mod root {
    use std::process::Command;

    use super::common::cgroups::Cgroup;
    use super::common::house::{HOLD, House};
    use super::*;

    #[test]
    fn an_option_of_td_run_behind_name_is_found_to_be_one() {
        let house = House::new();
        let told =
            |option: &str| format!("{option} is an option of td-run: options come before NAME\n");
        for (words, option) in [
            (&["-m", "64M", "sh"][..], "-m"),
            (&["-m64M", "sh"], "-m"),
            (&["-it", "sh"], "-t"),
            (&["--memory=64M", "sh"], "--memory"),
            (&["--net", "host", "sh"], "--net"),
            (&["-v", "/a:/b", "sh"], "-v"),
            (&["-v=/a:/b", "sh"], "-v"),
            (&["--tmp-overlay", "sh"], "--tmp-overlay"),
            (&["--trace"], "--trace"),
        ] {
            for tool in [&["--no-init"][..], &[]] {
                let output = run(&mut house.container(tool, words)).exits(127);
                let last = output.err().lines().last().unwrap_or_default().to_string() + "\n";
                assert!(last.ends_with(&told(option)), "{words:?}: {output}");
            }
        }
        // What td-run does not have, and what is found, leads to no such line.
        for words in [&["-x"][..], &["--nothing"], &["-1"], &["nothing", "-m"], &["--", "-m"]] {
            let output = run(&mut house.container(&[], words)).exits(127);
            assert!(!output.err().contains("option of td-run"), "{words:?}: {output}");
        }
        let program = house.image().join("bin/-m");
        std::fs::write(&program, "#!/bin/sh\necho run \"$@\"; exit ${1#64}\n").expect("a program");
        chmod(&program, 0o755);
        let output = run(&mut house.container(&[], &["-m", "643"])).exits(3);
        assert_eq!((output.out(), output.err()), ("run 643\n".into(), String::new()));
        // It is its own status that it ends with.
        let output = run(&mut house.container(&[], &["-m", "64127"])).exits(127);
        assert_eq!(output.err(), "");
    }

    #[test]
    fn td_enter_is_told_that_prog_is_a_container() {
        let house = House::new();
        let held = house.hold(&[], HOLD);
        let state = house.state();
        let mut cmd = td("td-enter", ["--state", text(&state), &house.name, "echo", "in"]);
        let output = run(&mut cmd).exits(127);
        let way = format!("td-enter --name {} PROG", house.name);
        output.says(&format!("td-enter: {} is the name of a container\n", house.name)).says(&way);
        // The way works; what is no container, or stands beside what is to be entered, is none.
        let mut cmd =
            td("td-enter", ["--state", text(&state), "--name", &house.name, "echo", "in"]);
        assert_eq!(run(&mut cmd).ok().out(), "in\n");
        let pid = std::process::id().to_string();
        for words in [&["none"][..], &["-t", &pid, "-u", &house.name], &["--wd=/", &house.name]] {
            let mut cmd = td("td-enter", ["--state", text(&state)]);
            let output = run(cmd.args(words)).exits(127);
            assert!(!output.err().contains("container"), "{output}");
        }
        held.go_on().ok();
    }

    /// The way of a row, followed: the tool, an option of the row, and what a shell prints that does it. `$C` is the
    /// name of a cgroup. In the directory, `img` is an image, `mnt` the same mounted, and `a` an empty directory.
    const WAYS: &[(&str, &str, &str, &str)] = &[
        ("td-unshare", "--fork", "td-unshare --pid sh -c 'echo $$'", "1"),
        (
            "td-unshare",
            "--kill-child",
            "td-unshare --pid sleep 1000 & p=$!; until c=$(pgrep -P $p); do :; done
             kill -9 $p; while kill -0 $c; do sleep 0.01; done 2>/dev/null; echo gone",
            "gone",
        ),
        (
            "td-unshare",
            "--die-with-parent",
            "sh -c 'td-init --parent-death KILL td-unshare --pid sh -c \"echo up >a/up; sleep 1000\" & echo $! >a/init
                until [ -s a/up ]; do :; done'
             while kill -0 $(cat a/init); do sleep 0.01; done 2>/dev/null; echo gone",
            "gone",
        ),
        (
            "td-unshare",
            "--forward-signals",
            "td-unshare --pid sh -c 'trap \"echo TERM; exit\" TERM; echo up >a/up; while :; do sleep 0.01; done' &
             until [ -s a/up ]; do :; done; kill $!; wait",
            "TERM",
        ),
        (
            "td-unshare",
            "--mount-proc",
            "td-unshare --mount --pid td-mount --proc / sh -c 'echo /proc/[0-9]*'",
            "/proc/1",
        ),
        (
            "td-unshare",
            "--map-auto",
            "td-unshare --map-users auto --map-groups auto sh -c 'wc -l </proc/self/uid_map'",
            "1",
        ),
        ("td-unshare", "--uid", "td-unshare --map-user 7 id -u", "7"),
        ("td-unshare", "--gid", "td-unshare --map-group 7 id -g", "7"),
        (
            "td-unshare",
            "--keep-caps",
            "td-unshare --map-user 7 sh -c 'grep -c \"CapEff:.0*[1-9a-f]\" /proc/self/status'",
            "1",
        ),
        ("td-unshare", "-R", "td-unshare --mount td-pivot mnt ls /bin/busybox", "/bin/busybox"),
        ("td-unshare", "--wd", "td-unshare --mount td-exec --chdir /dev pwd", "/dev"),
        (
            "td-unshare",
            "-S",
            "td-unshare --user --map-users 0:0:9 --map-groups 0:0:9 td-exec --user 5:6 sh -c 'id -u; id -g'",
            "5\n6",
        ),
        ("td-unshare", "--unshare-user", "td-unshare --user readlink /proc/self/ns/user", "new user"),
        ("td-unshare", "--unshare-ipc", "td-unshare --ipc readlink /proc/self/ns/ipc", "new ipc"),
        ("td-unshare", "--unshare-pid", "td-unshare --pid sh -c 'echo $$'", "1"),
        ("td-unshare", "--unshare-net", "td-unshare --net readlink /proc/self/ns/net", "new net"),
        ("td-unshare", "--unshare-uts", "td-unshare --uts readlink /proc/self/ns/uts", "new uts"),
        (
            "td-unshare",
            "--unshare-cgroup",
            "td-unshare --cgroup readlink /proc/self/ns/cgroup",
            "new cgroup",
        ),
        (
            "td-unshare",
            "--unshare-all",
            "td-unshare --user --ipc --pid --net --uts --cgroup sh -c 'echo $$'",
            "1",
        ),
        (
            "td-unshare",
            "--share-net",
            "[ $(td-unshare --uts readlink /proc/self/ns/net) = $(readlink /proc/self/ns/net) ] && echo same",
            "same",
        ),
        (
            "td-unshare",
            "--ro-bind",
            "td-unshare --mount td-mount --ro-bind img /a . \
                sh -c 'ls a/bin/busybox; touch a/x 2>&1 | grep -o Read-only'",
            "a/bin/busybox\nRead-only",
        ),
        (
            "td-enter",
            "-c",
            "td-cgroup --memory 64M $C sleep 1000 & until grep -q td-test /proc/$!/cgroup; do :; done
             td-enter -t $! --join-cgroup grep -c memory.*td-test /proc/self/cgroup; kill $!",
            "1",
        ),
        (
            "td-enter",
            "-S",
            "td-enter -t $$ --uts td-exec --user 5:6 sh -c 'id -u; id -g'",
            "5\n6",
        ),
        ("td-enter", "-e", "td-enter -t $$ --uts td-exec --env A=b sh -c 'echo $A'", "b"),
        ("td-enter", "--wdns", "td-enter -t $$ --mount --wd=/dev pwd", "/dev"),
        ("td-enter", "-F", "echo $$ >a/x; exec td-enter -t $$ --uts sh -c 'echo $(($$ - $(cat a/x)))'", "0"),
        ("td-exec", "--nnp", "td-exec --no-new-privs grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
        ("td-exec", "--reuid", "td-exec --user 5:6 sh -c 'id -u; id -g'", "5\n6"),
        ("td-exec", "-u", "td-exec --user 5 id -u; A=b td-exec --unset A sh -c 'echo ${A-none}'", "5\nnone"),
        ("td-exec", "--clear-groups", "td-exec --user 5:6 --groups '' id -G", "6"),
        ("td-exec", "--keep-groups", "td-exec --user 5:6 --groups 7,8 id -G", "6 7 8"),
        ("td-exec", "--init-groups", "td-exec --user root id -G", "0"),
        (
            "td-exec",
            "--bounding-set",
            "td-exec --cap-keep chown,kill grep -E 'Cap(Bnd|Eff)' /proc/self/status",
            "CapEff:\t0000000000000021\nCapBnd:\t0000000000000021",
        ),
        (
            "td-exec",
            "--ambient-caps",
            "td-exec --user 5:5 --cap-keep chown,kill --ambient grep -E 'Cap(Amb|Eff)' /proc/self/status",
            "CapEff:\t0000000000000021\nCapAmb:\t0000000000000021",
        ),
        (
            "td-exec",
            "--reset-env",
            "A=b td-exec --clear-env --home sh -c 'echo $HOME ${A-none}'",
            "/root none",
        ),
        ("td-exec", "--clearenv", "A=b td-exec --clear-env /bin/sh -c 'echo ${A-none}'", "none"),
        ("td-exec", "--unsetenv", "A=b td-exec --unset A sh -c 'echo ${A-none}'", "none"),
        ("td-exec", "--setenv", "td-exec --env A=b sh -c 'echo $A'", "b"),
        ("td-exec", "-b", "td-exec --argv0 x sh -c 'echo $0'", "x"),
        ("td-exec", "--pwd", "td-exec --chdir /dev pwd", "/dev"),
        (
            "td-exec",
            "--default-signal",
            "trap '' USR1; td-exec td-init --default-signals sh -c 'kill -USR1 $$'; echo $?",
            "138",
        ),
        (
            "td-exec",
            "--pdeathsig",
            "sh -c 'td-exec td-init --parent-death TERM sh -c \"echo up >a/up; exec sleep 1000\" & echo $! >a/init
                until [ -s a/up ]; do :; done'
             while kill -0 $(cat a/init); do sleep 0.01; done 2>/dev/null; echo gone",
            "gone",
        ),
        (
            "td-exec",
            "--new-session",
            "td-exec --setsid sh -c 'read -r x </proc/$$/stat; set -- ${x##*) }; echo $(($3 == $$)) $(($4 == $$))'",
            "1 1",
        ),
        (
            "td-exec",
            "--seccomp-filter",
            "td-exec --no-new-privs --seccomp default grep Seccomp: /proc/self/status",
            "Seccomp:\t2",
        ),
        (
            "td-exec",
            "--chroot",
            "td-unshare --mount td-pivot mnt td-exec --env A=b sh -c 'echo $A; ls /bin/busybox'",
            "b\n/bin/busybox",
        ),
        (
            "td-exec",
            "-L",
            "td-lock a/l td-exec --rlimit memlock=4096:8192 \
                sh -c 'td-lock -n a/l true 2>/dev/null; echo $?; ulimit -Sl'",
            "125\n4",
        ),
        ("td-exec", "--nofile", "td-exec --rlimit nofile=64:128 sh -c 'ulimit -Sn; ulimit -Hn'", "64\n128"),
        (
            "td-exec",
            "--nice",
            "td-exec --rlimit locks=9 --rlimit msgqueue=9 --rlimit nice=0 --rlimit rtprio=0 --rlimit rttime=9 \
             --rlimit sigpending=99 sh -c 'grep -c \" 9  *9 \" /proc/$$/limits'",
            "3",
        ),
        ("td-lock", "-c", "td-lock a/l sh -c 'echo run'", "run"),
        (
            "td-lock",
            "--close",
            "td-lock a/l td-init sh -c 'td-lock -n a/l true 2>/dev/null; echo $?; ls -l /proc/$$/fd' |
             grep -c '125\\|a/l'",
            "1",
        ),
        ("td-lock", "-u", "td-lock a/l true; td-lock -n a/l echo free", "free"),
        (
            "td-lock",
            "-N",
            "td-lock a/l sh -c 'echo up >a/up; sleep 0.2; echo one' & until [ -s a/up ]; do :; done
             td-lock a/l echo two",
            "one\ntwo",
        ),
        ("td-lock", "-X", "td-lock a/l sh -c 'td-lock -n a/l true' 2>/dev/null; echo $?", "125"),
        ("td-lock", "-r", "td-lock --shared a/l td-lock -n --shared a/l echo both", "both"),
        ("td-lock", "--fcntl", "td-lock --key k a/l echo run", "run"),
        ("td-lock", "--verbose", "td-lock --trace a/l true 2>&1 | grep -c flock", "1"),
        ("td-mount", "-t", "td-unshare --mount td-mount --fs tmpfs x /a . stat -f -c %T a", "tmpfs"),
        (
            "td-mount",
            "-o",
            "td-unshare --mount td-mount --tmpfs /a --options ro . sh -c 'touch a/x 2>&1' | grep -o Read-only",
            "Read-only",
        ),
        ("td-mount", "-B", "td-unshare --mount td-mount --bind img /a . ls a/bin/busybox", "a/bin/busybox"),
        (
            "td-mount",
            "--rbind",
            "td-unshare --mount td-mount --tmpfs /img/tmp --bind img /a . stat -f -c %T a/tmp",
            "tmpfs",
        ),
        (
            "td-mount",
            "-M",
            "td-unshare --mount td-mount --move mnt /a . sh -c 'ls a/bin/busybox; ls mnt'",
            "a/bin/busybox",
        ),
        (
            "td-mount",
            "-r",
            "td-unshare --mount td-mount --ro-bind img /a . touch a/x 2>&1 | grep -o Read-only
             td-unshare --mount td-mount --bind img /a --options ro . touch a/x 2>&1 | grep -o Read-only",
            "Read-only\nRead-only",
        ),
        ("td-mount", "--rw", "td-unshare --mount td-mount --bind img /a . sh -c 'touch a/x && ls a/x'
             rm img/x", "a/x"),
        ("td-mount", "--fake", "td-unshare --mount td-mount --dry-run --tmpfs /a . true | grep -c move_mount", "1"),
        ("td-mount", "-v", "td-unshare --mount td-mount --trace --tmpfs /a . true 2>&1 | grep -c move_mount", "1"),
        (
            "td-mount",
            "-n",
            "td-unshare --mount td-mount --trace --tmpfs /a . true 2>&1 | grep -c 'mtab\\|utab\\|clone'",
            "0",
        ),
        ("td-mount", "-m", "td-unshare --mount td-mount --tmpfs /a/b/c . stat -f -c %T a/b/c; rmdir a/b/c", "tmpfs"),
        (
            "td-mount",
            "--make-rshared",
            "for p in private slave shared; do
             td-unshare --mount --propagation $p td-mount --tmpfs /a . grep -c \"$PWD/a .*shared:\" /proc/self/mountinfo
             done",
            "0\n0\n1",
        ),
        (
            "td-mount",
            "-N",
            "td-enter --target $$ --mount td-mount --tmpfs /a \"$PWD\" true; stat -f -c %T a; umount a",
            "tmpfs",
        ),
        ("td-mount", "--mqueue", "td-unshare --mount td-mount --dev img stat -f -c %T img/dev/mqueue", "mqueue"),
        ("td-mount", "--chdir", "td-unshare --mount td-mount --tmpfs /a . td-exec --chdir /dev pwd", "/dev"),
        (
            "td-mount",
            "--setenv",
            "td-unshare --mount td-mount --tmpfs /a . td-exec --env A=b sh -c 'echo $A'
             td-unshare --mount td-mount --tmpfs /a . td-exec --cap-keep none --setsid --seccomp default \
                grep -c 'Seccomp:.2' /proc/self/status",
            "b\n1",
        ),
        (
            "td-mount",
            "--hostname",
            "td-unshare --mount --hostname h --map-user 0 --map-group 0 td-mount --tmpfs /a . sh -c 'hostname; id -u'",
            "h\n0",
        ),
        (
            "td-mount",
            "--perms",
            "td-unshare --mount td-mount --tmpfs /a --options mode=700,size=64k . sh -c 'stat -c %a a; df -k a' |
             sed 's/.* 64 .*/64/' | grep -x '700\\|64'",
            "700\n64",
        ),
        (
            "td-mount",
            "--overlay-src",
            "td-unshare --mount td-overlay --lower img a td-mount --tmpfs /a/tmp . stat -f -c %T a a/tmp",
            "overlayfs\ntmpfs",
        ),
        (
            "td-mount",
            "--die-with-parent",
            "sh -c 'td-init --parent-death KILL td-unshare --pid --mount td-mount --tmpfs /a . \
                sh -c \"echo up >img/up; sleep 1000\" & echo $! >a/init
                until [ -s img/up ]; do :; done'
             while kill -0 $(cat a/init); do sleep 0.01; done 2>/dev/null; rm img/up; echo gone",
            "gone",
        ),
        ("td-mount", "--as-pid-1", "td-unshare --pid --mount td-mount --tmpfs /a . sh -c 'echo $$'", "1"),
        ("td-overlay", "-t", "td-unshare --mount td-overlay --lower img a stat -f -c %T a", "overlayfs"),
        (
            "td-overlay",
            "-o",
            "mkdir a/u a/w a/m
             td-unshare --mount td-overlay --lower img --upper a/u --work a/w --option index=off a/m \
                touch a/m/x; ls a/u",
            "x",
        ),
        ("td-overlay", "--lowerdir", "td-unshare --mount td-overlay --lower img a ls a/bin/busybox", "a/bin/busybox"),
        (
            "td-overlay",
            "--upperdir",
            "mkdir a/u a/w a/m
             td-unshare --mount td-overlay --lower img --upper a/u --work a/w a/m touch a/m/x; ls a/u",
            "x",
        ),
        (
            "td-overlay",
            "--workdir",
            "mkdir a/u a/w a/m
             td-unshare --mount td-overlay --lower img --upper a/u --work a/w a/m touch a/m/x; ls a/w",
            "work",
        ),
        ("td-overlay", "--tmp-overlay", "td-unshare --mount td-overlay --lower img --tmpfs a touch a/x; ls a", ""),
        (
            "td-overlay",
            "--ro-overlay",
            "td-unshare --mount td-overlay --lower img a touch a/x 2>&1 | grep -o Read-only",
            "Read-only",
        ),
        (
            "td-pivot",
            "-c",
            "td-unshare --mount td-mount --dev mnt td-pivot mnt td-exec --ctty=/dev/null true 2>&1 | tail -1",
            "td-exec: /dev/null is not a terminal",
        ),
        ("td-pivot", "--userspec", "td-unshare --mount td-pivot mnt td-exec --user 5:6 /bin/id -u", "5"),
        ("td-pivot", "--groups", "td-unshare --mount td-pivot mnt td-exec --groups 7,8 /bin/id -G", "0 7 8"),
        ("td-pivot", "--skip-chdir", "td-unshare --mount td-pivot mnt td-exec --chdir /etc /bin/pwd", "/etc"),
        (
            "td-init",
            "-c",
            "td-init sh -c 'sleep 1000 & echo $! >a/other; echo up >a/up; wait' & until [ -s a/up ]; do :; done
             kill $!; wait $! || :; kill -0 $(cat a/other) && echo runs; kill $(cat a/other)",
            "runs",
        ),
        ("td-init", "-P", "td-init sleep infinity & until pgrep -P $! >/dev/null; do :; done
             kill $!; wait $! || echo $?", "143"),
        ("td-tty", "-c", "script -qec 'td-tty sh -c \"tty | cut -c1-9\"' /dev/null </dev/null |
             grep -o /dev/pts/", "/dev/pts/"),
        ("td-tty", "-q", "script -qec 'td-tty sh -c \"exit 7\"' /dev/null </dev/null >/dev/null; echo $?", "7"),
        (
            "td-tty",
            "--log-out",
            "script -qec 'td-tty echo shown | tee a/log; td-tty echo more | tee -a a/log' /dev/null </dev/null \
                >/dev/null; grep -o 'shown' a/log; grep -o more a/log",
            "shown\nmore",
        ),
        ("td-cgroup", "-g", "td-cgroup --memory 64M $C grep -c memory.*td-test /proc/self/cgroup", "1"),
        ("td-cgroup", "--scope", "td-cgroup --memory 64M $C true; td-cgroup --remove $C; echo removed", "removed"),
        (
            "td-cgroup",
            "-a",
            "td-cgroup --pids 9 --delegate 5:6 $C; td-exec --user 5:6 td-cgroup --pids 5 $C/x echo run",
            "run",
        ),
        ("td-cgroup", "-r", "td-cgroup --set pids.max=9 $C; td-cgroup --stat $C | grep pids.max", "pids.max 9"),
        (
            "td-cgroup",
            "-p",
            "td-cgroup --memory 64M --pids 9 --cpus 0.5 --set pids.max=8 $C; td-cgroup --stat $C | grep pids.max",
            "pids.max 8",
        ),
        ("td-cgroup", "--slice", "td-cgroup --pids 9 $C/s grep -c pids.*td-test.*/s /proc/self/cgroup", "1"),
    ];

    #[test]
    fn every_way_works() {
        let dir = image_on_tmpfs("mnt");
        let _etc = give_ids("root:100000:65536\n");
        let path = format!("{}:{}", bin_dir().display(), std::env::var("PATH").expect("a PATH"));
        let mut faults = Vec::new();
        for (number, (tool, option, script, expected)) in WAYS.iter().enumerate() {
            let cgroup = Cgroup::new(&format!("others-{number}"));
            let mut cmd = Command::new("sh");
            cmd.args(["-c", script]).env("PATH", &path).env("C", &cgroup.0).current_dir(dir.path());
            std::fs::create_dir(dir.join("a")).expect("an empty directory");
            let output = run(&mut cmd);
            std::fs::remove_dir_all(dir.join("a")).expect("to remove it");
            let out = output.out();
            let shown = match expected.strip_prefix("new ") {
                Some(kind) => {
                    let is_new = out.starts_with(kind) && out.trim() != ns("self", kind);
                    if is_new { expected } else { "not new" }
                }
                None => out.trim_end(),
            };
            if shown != *expected {
                faults.push(format!("{tool} {option}: {shown:?}, not {expected:?}\n{output}"));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn every_row_with_a_way_has_been_followed() {
        for (tool, table) in TABLES {
            for (options, way) in rows(table).filter(|(_, way)| !way.starts_with(NOTHING)) {
                let is_of_row = |(of, option, ..): &&(&str, &str, &str, &str)| {
                    *of == tool && options.contains(option)
                };
                let followed: Vec<_> = WAYS.iter().filter(is_of_row).collect();
                assert!(!followed.is_empty(), "{tool} {options:?}: {way}");
                let scripts: String = followed.iter().map(|(_, _, script, _)| *script).collect();
                for word in way.split([' ', ';', ',', ':']).filter(|word| word.starts_with("--")) {
                    let option = word.split('=').next().unwrap_or_default();
                    let is_named = option == "--help" || scripts.contains(option);
                    assert!(is_named || way.contains("leave"), "{tool} {options:?}: {option}");
                }
            }
        }
    }
}
