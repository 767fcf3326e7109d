//! Options of the programs that did these steps before td: what td has in place of each. A table is looked up only for
//! an option that its tool does not have.

/// A line is a row: the options, as one of those programs has them, and td's way, or that there is none.
/// `tests/others.rs` tries every row.
pub type Others = &'static str;

/// The row of an option in all tools.
const OF_ALL: Others = "\
-h: use --help
-V: use --version
";

/// unshare(1), and bubblewrap.
pub const UNSHARE: Others = "\
-f --fork: leave it out: with --pid, a child becomes PROG
--kill-child: leave it out: if td-unshare is killed, its child is killed too
--die-with-parent: td-init --parent-death KILL td-unshare ... PROG
--forward-signals: leave it out: if td-unshare waits for a child, it passes signals on
--mount-proc --proc: td-unshare --mount --pid td-mount --proc / PROG
--map-auto --map-subids: use --map-users auto --map-groups auto
--uid: use --map-user UID
--gid: use --map-group GID
--keep-caps: leave it out: PROG keeps the capabilities in a new user namespace
-R --root: td-unshare --mount td-pivot DIR PROG
-w --wd --chdir: td-unshare ... td-exec --chdir DIR PROG
-S --setuid -G --setgid: td-unshare ... td-exec --user UID:GID PROG
--unshare-user: use --user
--unshare-ipc: use --ipc
--unshare-pid: use --pid
--unshare-net: use --net
--unshare-uts: use --uts
--unshare-cgroup: use --cgroup
--unshare-all: use --user --ipc --pid --net --uts --cgroup
--share-net: leave it out, and --net too
--bind --ro-bind --dev-bind --dev --tmpfs --symlink --dir: td-unshare --mount td-mount OPTIONS ROOT PROG
-l --load-interp --mount-binfmt --owner --unshare-user-try --unshare-cgroup-try: td does not have this
";

/// nsenter(1).
pub const ENTER: Others = "\
-c: use --join-cgroup
-S --setuid -G --setgid: td-enter ... td-exec --user UID:GID PROG
-e --env: td-enter ... td-exec --env NAME=VALUE PROG
-W --wdns: use --wd=DIR
-F --no-fork: leave it out: a child becomes PROG only if it joins a pid namespace or has a terminal of its own
--preserve-credentials: td does not have this: with --user, PROG is root there
-N --net-socket -Z --follow-context --user-parent --keep-caps: td does not have this
";

/// setpriv(1), capsh(1), chpst(8), env(1), prlimit(1), and bubblewrap.
pub const EXEC: Others = "\
--nnp: use --no-new-privs
--reuid --ruid --euid --regid --rgid --egid --uid --gid: use --user UID:GID
-u: use --user USER, or to remove a variable --unset NAME
--clear-groups: use --groups ''
--keep-groups: leave it out; with --user, use --groups LIST
--init-groups: leave it out: --user sets the groups of that user
--bounding-set --drop --caps --cap-drop --cap-add: use --cap-keep LIST, of those to keep
--inh-caps --ambient-caps --inh --addamb: use --cap-keep LIST --ambient
--reset-env: use --clear-env --home
--ignore-environment --clearenv: use --clear-env
--unsetenv: use --unset NAME
--setenv: use --env NAME=VALUE
-a -b: use --argv0 NAME
--cwd --pwd: use --chdir DIR
--default-signal: td-exec ... td-init --default-signals PROG
--pdeathsig: td-exec ... td-init --parent-death SIGNAL PROG
-P --new-session: use --setsid: a new session is a new process group, too
--seccomp-filter: use --seccomp POLICY
-/ --chroot: td-unshare --mount td-pivot DIR td-exec ... PROG
-l -L: for a lock, td-lock FILE td-exec ... PROG; for a limit, --rlimit NAME=SOFT:HARD
-c --core -d --data -f --fsize -m --memlock --as -o --nofile -p --nproc -r --rss -s --stack -t --cpu: \
use --rlimit NAME=SOFT:HARD
--locks --msgqueue --nice --rtprio --rttime --sigpending: use --rlimit NAME=SOFT:HARD
--securebits --secbits --selinux-label --apparmor-profile --landlock-access --landlock-rule --ptracer: \
td does not have this
-0 -1 -2 -S --split-string --ignore-signal --block-signal --dump --print --shell: td does not have this
";

/// flock(1) and setlock(8).
pub const LOCK: Others = "\
-c --command: td-lock starts no shell: td-lock FILE sh -c COMMAND
-o --close: td-lock becomes PROG, so no other process would have the lock. This keeps it from PROG's children: \
td-lock FILE td-init PROG
-u --unlock: leave it out: a lock is free when every process that has it has ended or closed it
-N: leave it out: td-lock waits for the lock
-X: leave it out: a failure is never ignored
-r: use --shared
--fcntl: use --key NAME
--verbose: leave it out, or use --trace
";

/// mount(8), and bubblewrap.
pub const MOUNT: Others = "\
-t --types: use --fs TYPE SRC DST
-o -O: use --options LIST, after the mount to which it applies
-B: use --bind SRC DST
-R --rbind: use --bind SRC DST: it mounts what is below SRC, too
-M: use --move SRC DST
-r --read-only: use --ro-bind SRC DST, or --options ro after the mount
-w --rw --read-write: leave it out: --bind and --fs are writable
-f --fake: use --dry-run
-v --verbose: use --trace
-n --no-mtab -i --internal-only: leave it out: td-mount writes no mtab and runs no helper
-m --mkdir: leave it out: DST is created
--make-private --make-rprivate --make-slave --make-rslave --make-shared --make-rshared: \
td-unshare --mount --propagation private td-mount ... PROG; or slave, or shared; for all mounts
-N --namespace: td-enter --target PID --mount td-mount ... PROG
-a --all -T --fstab -L --label -U --uuid -l --show-labels -s -F: td does not have this
--mqueue: use --dev: it mounts /dev/mqueue
--chdir: td-mount ... td-exec --chdir DIR PROG
--setenv --unsetenv --clearenv --cap-add --cap-drop --new-session --seccomp: \
td-mount ... td-exec OPTIONS PROG: see td-exec --help
--hostname --uid --gid --unshare-all --unshare-user --unshare-pid --unshare-net --unshare-ipc --unshare-uts: \
td-unshare OPTIONS td-mount ... PROG: see td-unshare --help
--perms --size: use --options mode=MODE,size=SIZE, after --tmpfs DIR
--overlay --overlay-src --tmp-overlay --ro-overlay: td-overlay --lower DIR ... TARGET PROG
--die-with-parent: td-init --parent-death KILL td-unshare ... td-mount ... PROG
--as-pid-1: leave it out: with td-unshare --pid, PROG is process 1
--bind-try --ro-bind-try --dev-bind-try --bind-fd --ro-bind-fd --file --bind-data --ro-bind-data \
--chmod --args --lock-file --sync-fd --info-fd --block-fd --json-status-fd --userns: td does not have this
";

/// mount(8) with the type overlay, and bubblewrap.
pub const OVERLAY: Others = "\
-t --types: leave it out
-o: use --lower DIR, --upper DIR, --work DIR, and --option KEY=VALUE for the others
--lowerdir --overlay-src: use --lower DIR
--upperdir --overlay: use --upper DIR --work DIR
--workdir: use --work DIR
--tmp-overlay: use --tmpfs
--ro-overlay: leave out --upper: the overlay is read-only then
";

/// switch_root(8), pivot_root(8), chroot(1).
pub const PIVOT: Others = "\
-c: td-pivot NEW_ROOT td-exec --ctty=DEV PROG
--userspec: td-pivot NEW_ROOT td-exec --user USER:GROUP PROG
--groups: td-pivot NEW_ROOT td-exec --groups LIST PROG
--skip-chdir: td-pivot NEW_ROOT td-exec --chdir DIR PROG
";

/// tini, dumb-init and catatonit.
pub const INIT: Others = "\
-c --single-child: leave it out: without --group, only PROG gets the signals
-P: td-init sleep infinity
-l -L --license: td does not have this
";

/// script(1).
pub const TTY: Others = "\
-c --command: td-tty sh -c COMMAND
-q --quiet -e --return -f --flush: leave it out: td-tty prints nothing of its own, and ends as PROG ends
-O --log-out -a --append: td-tty PROG | tee FILE, with -a to append
-B --log-io -I --log-in -T --log-timing -t --timing -m --logging-format -E --echo -o --output-limit --force: \
td does not have this
";

/// cgexec(1) and its kin, and systemd-run(1).
pub const CGROUP: Others = "\
-g: td-cgroup PATH PROG
--sticky --scope: leave it out
-t -a: use --delegate UID:GID
-r: use --set FILE=VALUE
-p --property: use --memory, --pids, --cpus or --set FILE=VALUE
--slice -u --unit: td-cgroup PATH PROG
-d -f -s --user: td does not have this
";

/// What stands in the row of `option`, of one table or of that of all tools.
pub fn on(table: Others, option: &str) -> Option<&'static str> {
    table.lines().chain(OF_ALL.lines()).find_map(|row| {
        let (options, way) = row.split_once(": ")?;
        options.split(' ').any(|known| known == option).then_some(way)
    })
}
