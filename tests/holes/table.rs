//! The table: what is known by which number, what is tried, what must come back, and the control.

use crate::Attempt::{Inside, Outside};
use crate::Back::{All, Each};
use crate::Comes::{Is, NotHere};
use crate::Control::{Root, With, Without};
use crate::Hole;

pub const PRIVILEGED: &[&str] = &["--privileged"];
/// The script tries the same by a program that is not td's, or outside of any container.
const NAIVELY: &[&str] = &["naively"];

const ONE_ID: &str = "there is one id, and it is the caller's";

pub const HOLES: &[Hole] = &[
    // ---- who one is inside ----
    Hole {
        known: "CVE-2016-3697 (runc, docker)",
        tried: "a user of the image whose name is a number is to be taken for that number",
        attempt: Outside(
            "printf '1000:x:0:0::/root:/bin/sh\n' >>\"$image/etc/passwd\"
            printf '1000:x:0:\n' >>\"$image/etc/group\"
            run -u 1000 \"$name\" id -u
            run -u 1000:1000 \"$name\" sh -c 'echo $(id -u) $(id -g) $(id -G)'",
        ),
        back: Each([Is("1000\n1000 1000 1000"), Is("1000\n1000 1000 1000"), Is("1000\n1000 1000 1000")]),
        control: Without("tests/exec: the same line with a name makes that name root"),
    },
    Hole {
        known: "CVE-2024-40635 (containerd)",
        tried: "a number of a user that does not fit wraps to root, or is \"unchanged\"",
        attempt: Outside(
            "for user in 4294967296 4294967295 18446744073709551616 -1 1000:4294967296 1000:4294967295; do
                refused '' run -u \"$user\" \"$name\" id -u
            done",
        ),
        back: All("refused\nrefused\nrefused\nrefused\nrefused\nrefused"),
        control: Without("a number that fits is taken: the row above"),
    },
    Hole {
        known: "CVE-2016-8867 (docker), CVE-2021-20188 (podman)",
        tried: "a user who is not root keeps capabilities, and reads what root alone may",
        attempt: Outside(
            "echo x >\"$image/etc/closed\"
            chmod 600 \"$image/etc/closed\"
            run ${open:--u 1000} \"$name\" try read /etc/closed",
        ),
        back: Each([Is("/etc/closed EACCES"), Is("/etc/closed EACCES"), NotHere(ONE_ID)]),
        control: With(&["-u", "0"], "/etc/closed ok"),
    },
    Hole {
        known: "CVE-2022-24769 (docker), CVE-2022-27649 (podman), CVE-2022-27651 (buildah)",
        tried: "inheritable and ambient capabilities, which a program with file capabilities turns into permitted ones",
        attempt: Inside(&[], "grep -E '^Cap(Inh|Amb)' /proc/self/status | cut -f2"),
        back: All("0000000000000000\n0000000000000000"),
        control: Without("what is read is what the kernel has"),
    },
    Hole {
        known: "CVE-2022-29162 (runc exec), CVE-2022-27650 (crun exec)",
        tried: "the same of a process that is brought in",
        attempt: Outside(
            "hold
            enter grep -E '^Cap(Inh|Amb)' /proc/self/status | cut -f2
            release",
        ),
        back: All("0000000000000000\n0000000000000000"),
        control: Without("what is read is what the kernel has"),
    },
    Hole {
        known: "CVE-2022-36109 (docker), CVE-2023-25173 (containerd), CVE-2022-2989 (podman), CVE-2022-2990 (buildah), \
                CVE-2022-2995 (cri-o)",
        tried: "the group of the user is not among the supplementary groups, so that a program that changes the group \
                escapes a file's denial to it",
        attempt: Inside(&["-u", "1000:50"], "id -g; grep ^Groups /proc/self/status | tr -s '[:space:]' ' '"),
        back: Each([Is("50\nGroups: 50"), Is("50\nGroups: 50"), NotHere("setgroups(2) is given up for the right to map the id")]),
        control: Without("what is read is what the kernel has"),
    },
    Hole {
        known: "CVE-2018-7169 (shadow): the groups of the caller",
        tried: "the supplementary groups of the caller are there inside",
        attempt: Outside(
            "setpriv --groups 4242,4243 \"$td_run\" --state \"$state\" \"$name\" grep ^Groups /proc/self/status",
        ),
        back: Each([
            Is("Groups:"),
            NotHere("an ordinary user cannot give groups to himself for the attempt"),
            NotHere("setgroups(2) is given up: those that the caller has remain, and the manual says so"),
        ]),
        control: Without("what is read is what the kernel has"),
    },
    Hole {
        known: "no_new_privs (bubblewrap, podman)",
        tried: "a set-user-id program of the image makes another user root",
        attempt: Outside(
            "echo x >\"$image/etc/closed\"
            chmod 600 \"$image/etc/closed\"
            cp \"$attempt\" \"$image/bin/suid\"
            chmod 4755 \"$image/bin/suid\"
            run -u 1000 \"$name\" suid read /etc/closed",
        ),
        back: Each([Is("/etc/closed EACCES"), Is("/etc/closed EACCES"), NotHere(ONE_ID)]),
        control: With(PRIVILEGED, "/etc/closed ok"),
    },
    // ---- hostile images ----
    Hole {
        known: "CVE-2015-1335 (LXC), CVE-2015-3629 (libcontainer)",
        tried: "what is mounted or made on a path of the image goes where a link of the image leads",
        attempt: Outside(
            "mkdir data
            ln -s \"../../../../../../../../../..$work/outside\" \"$image/vol\"
            case $open in
                naively) mkdir \"$image/vol/new\" ;;
                *) refused /vol run -v \"$work/data:/vol/new\" --tmpfs /vol/tmp \"$name\" true ;;
            esac
            ls outside
            cat outside/file",
        ),
        back: All("refused\nfile\nof the host"),
        control: With(NAIVELY, "file\nnew\nof the host"),
    },
    Hole {
        known: "CVE-2019-18837 (crun)",
        tried: "/etc of the image is a link, and a file is mounted in it",
        attempt: Outside(
            "echo data >data
            rm -r \"$image/etc\"
            ln -s \"$work/outside\" \"$image/etc\"
            case $open in
                naively) : >\"$image/etc/hosts\" ;;
                *) refused /etc run -v \"$work/data:/etc/hosts\" \"$name\" true ;;
            esac
            ls outside",
        ),
        back: All("refused\nfile"),
        control: With(NAIVELY, "file\nhosts"),
    },
    Hole {
        known: "CVE-2019-19921, CVE-2023-27561, CVE-2023-28642 (runc)",
        tried: "/proc, /dev or /sys of the image is a link to a directory that the image has prepared",
        attempt: Outside(
            "mkdir \"$image/mine\"
            for directory in proc dev sys; do
                rmdir \"$image/$directory\"
                ln -s mine \"$image/$directory\"
                refused /$directory run \"$name\" true
                rm \"$image/$directory\"
                mkdir \"$image/$directory\"
            done
            run \"$name\" echo runs",
        ),
        back: All("refused\nrefused\nrefused\nruns"),
        control: Without("with directories it runs: the last line"),
    },
    Hole {
        known: "CVE-2015-3631 (docker), CVE-2019-16884 (runc)",
        tried: "a volume stands in for what the kernel says in /proc",
        attempt: Outside(
            "ln -s /proc/self \"$image/link\"
            for target in /proc /proc/self/attr /tmp/../proc/sys /link/attr /dev/fd /sys/kernel; do
                refused /${target#/} run -v \"$work/outside:$target\" \"$name\" true
            done
            refused /proc run --tmpfs /proc \"$name\" true
            run -v \"$work/outside:/volume\" \"$name\" ls /volume",
        ),
        back: All("refused\nrefused\nrefused\nrefused\nrefused\nrefused\nrefused\nfile"),
        control: Without("elsewhere it is mounted: the last line"),
    },
    Hole {
        known: "CVE-2025-31133 (runc)",
        tried: "/dev/null of the image is a link, and what masks a file is what it leads to, writable",
        attempt: Outside(
            "ln -s /proc/sys/kernel/core_pattern \"$image/dev/null\"
            ln -s core_pattern \"$image/dev/zero\"
            run \"$name\" sh -c 'for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
                    [ ! -e $file ] || stat -c \"%F %t:%T\" $file
                done | sort -u; try write /proc/sys/kernel/core_pattern'",
        ),
        back: Each([
            Is("character special file 1:3\n/proc/sys/kernel/core_pattern EROFS"),
            Is("character special file 1:3\n/proc/sys/kernel/core_pattern EACCES"),
            Is("character special file 1:3\n/proc/sys/kernel/core_pattern EACCES"),
        ]),
        control: Without("the link is covered by a /dev of td's own: the row before, where it is not"),
    },
    Hole {
        known: "CVE-2025-52565 (runc)",
        tried: "/dev/console or /dev/pts of the image is a link, on which the terminal is mounted",
        attempt: Outside(
            "ln -s /proc/sys/kernel/core_pattern \"$image/dev/console\"
            ln -s /proc/sys \"$image/dev/pts\"
            \"$attempt\" pty -c \"$td_run\" --state \"$state\" \"$name\" sh -c \
                'ls -d /dev/console; ls /dev/pts; stat -f -c %T /proc/sys/kernel/core_pattern'",
        ),
        back: All("ls: /dev/console: No such file or directory\nptmx\nproc"),
        control: Without("nothing is mounted there: the links are covered"),
    },
    Hole {
        known: "CVE-2025-52881 (runc), CVE-2019-19921 (runc)",
        tried: "what td writes to its own /proc is written to files of the image",
        attempt: Outside(
            "for file in attr/exec attr/keycreate uid_map gid_map setgroups oom_score_adj cgroup timens_offsets; do
                mkdir -p \"$image/proc/self/attr\" \"$image/proc/thread-self/attr\"
                : >\"$image/proc/self/$file\" >\"$image/proc/thread-self/$file\"
            done
            hold
            enter echo entered
            release
            find \"$image/proc\" -type f -size +0",
        ),
        back: All("entered"),
        control: Without("nothing is written to /proc behind td-pivot"),
    },
    Hole {
        known: "CVE-2021-30465, CVE-2024-45310 (runc), CVE-2024-23651 (buildkit)",
        tried: "a directory of a volume is exchanged for a link while another volume is mounted in it",
        attempt: Outside(
            "mkdir -p vol/real data
            ln -s \"../../../../../../../../../..$work/outside\" vol/link
            \"$attempt\" swap vol/real vol/link &
            inside=0 link=0 runs=0
            while [ \"$runs\" -lt 20 ] || { [ \"$inside\" = 0 ] || [ \"$link\" = 0 ]; } && [ \"$runs\" -lt 300 ]; do
                runs=$((runs + 1))
                run -v \"$work/vol:/vol\" -v \"$work/data:/vol/real/new\" \"$name\" true >/dev/null 2>&1 || :
                if rmdir vol/real/new 2>/dev/null || rmdir vol/link/new 2>/dev/null; then
                    inside=$((inside + 1))
                else
                    link=$((link + 1))
                fi
                [ \"$(ls outside)\" = file ] || break
            done
            kill $!
            [ \"$inside\" = 0 ] || [ \"$link\" = 0 ] || echo raced
            ls outside",
        ),
        back: All("raced\nfile"),
        control: Without("it counts that the directory was met, and that the link was"),
    },
    Hole {
        known: "CVE-2022-1227 (podman top), CVE-2025-23266 (NVIDIA's hook)",
        tried: "programs and variables of the image stand in for those that set the container up",
        attempt: Outside(
            "for tool in td-unshare td-overlay td-mount td-pivot td-exec td-init td-enter newuidmap newgidmap; do
                printf '#!/bin/sh\necho evil\n' >\"$image/bin/$tool\"
                chmod 755 \"$image/bin/$tool\"
            done
            hold -e LD_PRELOAD=/evil.so -e LD_LIBRARY_PATH=/evil -e PATH=/evil:/bin
            enter td-exec /bin/echo fine
            release
            cat held",
        ),
        back: All("fine\nready"),
        control: Without("the programs are there: without a tool of that name in td, they run"),
    },
    Hole {
        known: "CVE-2014-6407, CVE-2014-9356 (docker), CVE-2021-32760 (containerd)",
        tried: "an archive writes through a link that it has brought, and above its root",
        attempt: Outside(
            "mkdir -p link below/link
            ln -s \"$work/outside\" link/link
            echo evil >below/link/file
            echo evil >below/link/new
            echo evil >up
            tar -cf evil.tar -C link link
            tar -rf evil.tar -C below link/file link/new
            tar -rf evil.tar -P --transform \"s,^up\\$,../../../../../../../../..$work/outside/up,\" up
            case $open in
                naively) mkdir x; tar -P -xf evil.tar -C x ;;
                *) refused 'tar ended with status 2' \"${td_run%/*}/td-rootfs\" --tar evil.tar \"$work/x\" ;;
            esac
            ls outside
            cat outside/file",
        ),
        back: All("refused\nfile\nof the host"),
        control: With(NAIVELY, "file\nnew\nup\nevil"),
    },
    // ---- what is left of the host ----
    Hole {
        known: "CVE-2015-3627 (libcontainer), CVE-2016-9962, CVE-2024-21626 (runc)",
        tried: "a descriptor of the host is left open, and becomes the working directory",
        attempt: Outside(
            "exec 7<outside 8<\"$dir/secret\"
            case $open in
                naively) \"$bin/td-exec\" --keep-fd 7 -C /proc/self/fd/7 cat file; exit ;;
            esac
            for fd in 3 4 5 6 7 8 9 10 11 12 13; do
                for process in self 1; do
                    run -w /proc/$process/fd/$fd \"$name\" sh -c 'cat file ../file ../../secret'
                done
            done 2>&1 | grep '^of the host'
            run \"$name\" ls /proc/self/fd
            hold
            enter ls /proc/self/fd
            release",
        ),
        back: All("0\n1\n2\n3\n0\n1\n2\n3"),
        control: With(NAIVELY, "of the host"),
    },
    Hole {
        known: "CVE-2016-8649 (lxc-attach), CVE-2016-9962 (runc exec), CVE-2016-8659 (bubblewrap)",
        tried: "who enters is looked into: descriptors, memory, environment, root",
        attempt: Outside(
            "run \"$name\" try scan 10 >held 2>&1 &
            holds
            while kill -0 $! 2>/dev/null; do enter true 2>/dev/null || :; done
            cat held",
        ),
        back: All("ready"),
        control: Without("tests/enter stops the entry at each call, and what a privileged container sees then"),
    },
    Hole {
        known: "CVE-2015-1334 (LXC)",
        tried: "a /proc of the container's own making deceives who enters",
        attempt: Outside(
            "hold --privileged
            enter sh -c 'mount -t tmpfs t /proc && mkdir -p /proc/self/attr /proc/1/ns && echo 1 >/proc/1/status' &&
                enter sh -c 'ls /proc; id -u'
            release",
        ),
        back: All("1\nself\n0"),
        control: Without("the /proc is seen inside: the first lines"),
    },
    Hole {
        known: "CVE-2019-5736 (runc, LXC), CVE-2020-14298 (docker)",
        tried: "the program that runs COMMAND is overwritten from inside",
        attempt: Outside(
            "word=--unset # of several tools it must say which it is
            [ ! -e \"$bin/td\" ] || word=td-lock
            echo \"#!/proc/self/exe $word\" >\"$image/evil\"
            chmod 755 \"$image/evil\"
            cksum \"$bin\"/* >before
            for options in '' --privileged; do
                run $options \"$name\" /evil -- sh -c 'try reopen /proc/$PPID/exe; try reopen /proc/1/exe'
                hold $options
                enter try reopen /proc/1/exe
                release
                rm hold held
            done | sort | uniq -c | grep -v -E '^ +[0-9]+ (open|reopen) E(ACCES|TXTBSY|PERM|ROFS)$'
            echo tried
            cksum \"$bin\"/* | cmp - before",
        ),
        back: All("tried"),
        control: Without("a privileged container reaches the copy, and is refused by it"),
    },
    Hole {
        known: "chroot(2), CAP_SYS_CHROOT",
        tried: "out of the root by a second chroot below it",
        attempt: Outside(
            "case $open:$uid in
                naively:0) chroot \"$image\" /bin/try chroot \"$dir/secret\" ;;
                naively:*) unshare -r chroot \"$image\" /bin/try chroot \"$dir/secret\" ;;
                *) run \"$name\" try chroot \"$dir/secret\" ;;
            esac",
        ),
        back: All("inside"),
        control: With(NAIVELY, "escaped"),
    },
    Hole {
        known: "pivot_root(2), the old root below the new one",
        tried: "what is unmounted in a privileged container uncovers the host",
        attempt: Outside(
            "run --privileged \"$name\" sh -c \"umount -l /dev /proc /sys; umount -l /; umount -l /; ls -d /bin
                try read '$dir/secret'\" 2>&1 | grep -v ^umount: | sed \"s,$dir,,\"",
        ),
        back: All("/bin\n/secret ENOENT"),
        control: Without("the host's root is in no mount namespace of the container: tests/run"),
    },
    Hole {
        known: "mount propagation (docker, LXC)",
        tried: "what a privileged container mounts on a volume is mounted in the host",
        attempt: Outside(
            "[ \"$uid\" != 0 ] || mount --make-rshared /
            hold --privileged -v \"$work/outside:/vol\"
            enter sh -c 'mount -t tmpfs t /vol && ls -A /vol | wc -l'
            ls outside
            release",
        ),
        back: All("0\nfile"),
        control: Without("the mount is seen inside: the first line"),
    },
    Hole {
        known: "/proc/1 (docker, bubblewrap)",
        tried: "the environment, the memory and the paths of the host are read in process 1",
        attempt: Outside(
            "export SECRET='of the host'
            run \"$name\" sh -c 'for file in environ maps mem auxv stack syscall; do
                    try read /proc/1/$file | grep -v -e EACCES -e EPERM
                done
                grep -l \"of the host\" /proc/[0-9]*/environ
                for link in root cwd exe fd/0; do readlink /proc/1/$link; done
                tr -d \"\\0\" </proc/1/cmdline; echo' 2>/dev/null
            run -e SECRET \"$name\" grep -l 'of the host' /proc/self/environ",
        ),
        back: All("td-init\n/proc/self/environ"),
        control: Without("what is handed over is found: the last line"),
    },
    Hole {
        known: "overlay(5), the layers of the host",
        tried: "upper and work directory are found below the root",
        attempt: Inside(&["--keep"], "find / -xdev '(' -name work -o -name upper ')'; echo looked"),
        back: All("looked"),
        control: Without("tests/run: they are in the state"),
    },
    Hole {
        known: "CVE-2024-23652 (buildkit), docker rm",
        tried: "the removal of what the container wrote follows its links, or goes into its volumes",
        attempt: Outside(
            "mkdir data
            echo data >data/file
            run -v \"$work/data:/vol\" \"$name\" sh -c \"ln -s '$work/outside' /link; mkdir -p /a/b; ln -s / /a/b/root
                ln -s ../../../../../../..'$work/outside' /a/up; ln '/vol/file' /hard; chmod 0 /a; echo made\" 2>/dev/null
            cat outside/file data/file
            ls -A \"$state/containers\"",
        ),
        back: All("made\nof the host\ndata"),
        control: Without("nothing of the container is left: it was removed"),
    },
    Hole {
        known: "CVE-2021-41091 (docker), CVE-2021-41103, CVE-2024-25621 (containerd), CVE-2021-21284 (docker)",
        tried: "another user of the host reaches the files of a container, and a set-user-id program in it",
        attempt: Outside(
            "hold
            enter sh -c 'cp /bin/try /suid && chmod 4755 /suid'
            chmod 755 \"$state\"
            find \"$state/containers\" -name suid >found 2>/dev/null
            stat -c %a \"$state/containers\" \"$state/containers/$name\"
            stat -c %A \"$(cat found)\"
            release",
        ),
        back: All("700\n700\n-rwsr-xr-x"),
        control: Without("the program is there, with that mode: the last line"),
    },
    Hole {
        known: "CVE-2015-1331 (LXC), CVE-2019-12439 (bubblewrap)",
        tried: "a directory of the state is a link that another has made, and its target is written to, or removed",
        attempt: Outside(
            "mkdir -p outside/run outside/upper outside/c
            for link in containers \"containers/$name\" \"containers/$name/run\" \"containers/$name/upper\"; do
                for options in '' --keep; do
                    rm -rf \"$state/containers\"
                    mkdir -p \"$state/${link%/*}\"
                    rm -rf \"${state:?}/$link\"
                    ln -s \"$work/outside\" \"$state/$link\"
                    run $options \"$name\" sh -c 'echo x >/new' >said 2>&1 || :
                done
            done
            find outside | sort
            rm -r \"$state/containers\"
            run \"$name\" echo runs",
        ),
        back: All("outside\noutside/c\noutside/file\noutside/run\noutside/upper\nruns"),
        control: Without("with directories it runs: the last line"),
    },
    Hole {
        known: "CVE-2024-25621 (containerd), CVE-2021-41103",
        tried: "others may write to the state, or to what is in it",
        attempt: Outside(
            "run --keep \"$name\" true
            for directory in . containers \"containers/$name\" images; do
                chmod 777 \"$state/$directory\"
                refused '' run \"$name\" true
                chmod 700 \"$state/$directory\"
            done
            run \"$name\" echo runs",
        ),
        back: All("refused\nrefused\nrefused\nrefused\nruns"),
        control: Without("closed again, it runs: the last line"),
    },
    // ---- options and messages ----
    Hole {
        known: "CVE-2024-32462 (flatpak, bubblewrap)",
        tried: "a COMMAND or a NAME is taken for options",
        attempt: Outside(
            "for command in --privileged --bind --; do
                run \"$name\" \"$command\" / /host >/dev/null 2>&1 || echo $?
            done
            for bad in --privileged ../x .. a/b '' 'a b'; do
                refused '' run -- \"$bad\" true
            done",
        ),
        back: All("127\n127\n127\nrefused\nrefused\nrefused\nrefused\nrefused\nrefused"),
        control: Without("before NAME they are options"),
    },
    Hole {
        known: "CVE-2024-28085 (util-linux wall), CVE-2023-28101 (flatpak)",
        tried: "escape sequences in names reach the terminal",
        attempt: Outside(
            "esc=$(printf '\\033]0;x\\007\\033[2J')
            printf '%s:x:0:0:::\n' \"$esc\" >>\"$image/etc/passwd\"
            {
                for option in --image -u -w --net --tmpfs -v -m --pids -h --state; do
                    run \"$option\" \"$esc\" \"$name\" true
                done
                run --image \"./$esc\" \"$name\" true
                run --\"$esc\" \"$name\" true
                run -e \"$esc\" \"$name\" true
                run \"$esc\" true
                run \"$name\" \"$esc\"
                run --reclaim \"$esc\"
                \"$bin/td-enter\" --state \"./$esc\" --name \"$name\" true
                \"$bin/td-enter\" --state \"$state\" --name \"$esc\" true
                \"$bin/td-exec\" --\"$esc\" true
            } >said 2>&1
            tr -cd '\\033\\007' <said | wc -c
            [ \"$(wc -l <said)\" -gt 15 ] || cat said",
        ),
        back: All("0"),
        control: Without("each of these words is refused by a message that repeats it"),
    },
    // ---- the kernel's own files and devices ----
    Hole {
        known: "CVE-2015-3630 (docker), CVE-2018-10892 (docker), CVE-2022-0811 (cri-o): core_pattern, uevent_helper, \
                modprobe, binfmt_misc, sysrq",
        tried: "the kernel is told to run a program on the host, or to stop",
        attempt: Inside(
            &[],
            "for file in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe \
                /proc/sys/kernel/hotplug /proc/sys/fs/binfmt_misc/register /proc/sys/kernel/ns_last_pid \
                /proc/sys/kernel/keys/maxkeys /proc/sys/vm/overcommit_memory /proc/sys/kernel/sysrq \
                /proc/irq/default_smp_affinity /proc/acpi/alarm /proc/fs/nfsd/threads /proc/bus/pci/00/00.0 \
                /proc/mtrr /sys/kernel/uevent_helper /sys/power/state /sys/kernel/mm/transparent_hugepage/enabled \
                /sys/class/net/lo/mtu /sys/kernel/profiling /sys/module/printk/parameters/time; do
                try write $file
            done | grep -c ' ok$'",
        ),
        back: All("0"),
        control: Root(PRIVILEGED, "12"),
    },
    Hole {
        known: "CVE-2017-16539 (docker), CVE-2020-8694 (RAPL), moby's GHSA-6fw5-f8r9-fgfm",
        tried: "what the kernel says of other users' work is read: keys, timers, memory, energy",
        attempt: Inside(
            &[],
            "for file in /proc/kcore /proc/keys /proc/timer_list /proc/latency_stats /proc/sched_debug \
                /proc/interrupts /proc/scsi /proc/acpi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do
                if [ -d $file ]; then ls -A $file | sed 's/^/something /'; elif [ -e $file ]; then try read $file; fi
            done | sed 's/.* //' | sort -u",
        ),
        back: All("empty"),
        control: Without("tests/run: a privileged container reads them"),
    },
    Hole {
        known: "proc(5), sysfs(5), a second mount of them",
        tried: "masks and read-only parts are undone: by a new mount, a remount, an unmount, a bind",
        attempt: Inside(
            &[],
            "mkdir /tmp/m
            for type in proc sysfs tmpfs devpts mqueue binfmt_misc securityfs debugfs tracefs bpf cgroup2; do
                mount -t $type none /tmp/m 2>/dev/null && echo $type
            done
            for point in / /sys /proc/sys; do mount -o remount,rw,bind $point 2>/dev/null && echo remounted; done
            for point in /proc/keys /proc/sys /dev/shm; do umount $point 2>/dev/null && echo unmounted; done
            mount --bind /proc /tmp/m 2>/dev/null && echo bound
            echo tried",
        ),
        back: All("tried"),
        control: Root(
            PRIVILEGED,
            "proc\nsysfs\ntmpfs\ndevpts\nmqueue\nbinfmt_misc\nsecurityfs\ndebugfs\ntracefs\nbpf\ncgroup2\nremounted\n\
             remounted\nunmounted\nbound\ntried",
        ),
    },
    Hole {
        known: "mknod(2): the disk and the memory of the host",
        tried: "a device node is made",
        attempt: Inside(
            &[],
            "mknod /disk b 7 0 2>/dev/null && echo disk
            mknod /tmp/kmsg c 1 11 2>/dev/null && echo log
            mknod /dev/mem c 1 1 2>/dev/null && echo memory
            echo tried",
        ),
        back: All("tried"),
        control: Root(PRIVILEGED, "disk\nlog\nmemory\ntried"),
    },
    Hole {
        known: "device nodes of an image (nodev)",
        tried: "a device node that the image brings is opened",
        attempt: Inside(&[], "try read /node /dev/zero"),
        back: All("/node EACCES\n/dev/zero ok"),
        control: Without("the same device in /dev is opened"),
    },
    Hole {
        known: "docker's --device, by -v",
        tried: "a device on a volume is opened",
        attempt: Outside(
            "run -v /dev/zero:/node2 -v /dev:/devices \"$name\" try read /node2 /devices/zero /dev/zero",
        ),
        back: All("/node2 EACCES\n/devices/zero EACCES\n/dev/zero ok"),
        control: Without("the same device in /dev is opened"),
    },
    Hole {
        known: "/proc/self/fd (docker, runc)",
        tried: "a disk from which a standard stream only reads is opened again, for writing",
        attempt: Outside(
            "disk=''
            for disk in /dev/loop0 /dev/vda /dev/sda; do [ ! -b \"$disk\" ] || break; done
            refused 'is a block device' run \"$name\" true <\"$disk\"
            cat \"$disk\" 2>/dev/null | run \"$name\" try write /proc/self/fd/0",
        ),
        back: Each([Is("refused\n/proc/self/fd/0 ok"), NotHere("a user may not open a disk"), NotHere("a user may not open a disk")]),
        control: Without("through a pipe it runs: the last line"),
    },
    Hole {
        known: "/dev of docker and bubblewrap",
        tried: "/dev has a device by which the host is reached",
        attempt: Inside(
            &[],
            "find /dev -type b
            find /dev -type c | sort",
        ),
        back: All("/dev/full\n/dev/null\n/dev/pts/ptmx\n/dev/random\n/dev/tty\n/dev/urandom\n/dev/zero"),
        control: Without("the list is whole"),
    },
    Hole {
        known: "CVE-2014-3519 (OpenVZ), docker's shocker: open_by_handle_at(2)",
        tried: "the root of the file system that holds a volume is opened by its number",
        attempt: Outside("run -v \"$dir/secret:/secret:ro\" \"$name\" try handle /secret"),
        back: All("handle EPERM"),
        control: Root(PRIVILEGED, "handle ok"),
    },
    Hole {
        known: "CVE-2016-8659 (bubblewrap), ptrace(2) of process 1",
        tried: "process 1, which was there before the root was changed, is traced",
        attempt: Inside(&[], "try ptrace 1"),
        back: All("ptrace EPERM"),
        control: With(PRIVILEGED, "ptrace ok"),
    },
    Hole {
        known: "oom_score_adj (docker, LXC)",
        tried: "the container makes others die for the memory that it takes",
        attempt: Inside(&[], "sh -c 'echo -999 >/proc/$$/oom_score_adj' 2>/dev/null && echo lowered; echo tried"),
        back: All("tried"),
        control: Without("it takes CAP_SYS_RESOURCE, which root of the machine need not have"),
    },
    Hole {
        known: "pid_namespaces(7)",
        tried: "a process of the host is killed by its number",
        attempt: Outside(
            "sleep 1000 &
            run \"$name\" sh -c \"kill -9 $!; kill -9 -1\" 2>/dev/null
            kill $! && echo alive",
        ),
        back: All("alive"),
        control: Without("it is killed at the end, by the same number"),
    },
    Hole {
        known: "CVE-2020-15257 (containerd)",
        tried: "a socket of the host in the abstract name space is connected to",
        attempt: Outside(
            "\"$attempt\" listen \"td-$name\" >held &
            holds
            run \"$name\" try connect \"td-$name\"
            kill $!",
        ),
        back: All("connect ECONNREFUSED"),
        control: With(&["--net", "host"], "connect ok"),
    },
    Hole {
        known: "CVE-2023-25809 (runc)",
        tried: "the cgroups of the host are written to, through the /sys of the host's network",
        attempt: Inside(
            &["--net", "host"],
            "find /sys/fs/cgroup -name cgroup.procs 2>/dev/null | while read -r file; do try write $file; done | grep ' ok$'
            mkdir /sys/fs/cgroup/td-hole 2>/dev/null && echo made
            echo tried",
        ),
        back: All("tried"),
        control: Without("tests/cgroup: who may, writes there"),
    },
];

/// What is known of the same houses and cannot be tried on td, with the reason.
pub const ELSEWHERE: &[(&str, &str)] = &[
    ("CVE-2014-5277 (docker)", "td pulls nothing: no registry, no signature, no manifest"),
    ("CVE-2014-6408 (docker)", "an image holds files, and no option of the container"),
    (
        "CVE-2014-9357 (docker)",
        "td-rootfs has the machine's tar and xz unpack, without rights: tests/rootfs_tar",
    ),
    ("CVE-2014-9358 (docker)", "images have no numbers that an image chooses: NAME is checked"),
    ("CVE-2017-5985 (lxc-user-nic), CVE-2018-6556, CVE-2022-47952", "nothing of td is set-user-id"),
    ("CVE-2017-14992 (docker)", "no archive is read into memory"),
    (
        "CVE-2018-15664, CVE-2019-14271, CVE-2021-41089 (docker cp)",
        "td copies nothing out of a container",
    ),
    (
        "CVE-2019-13139 (docker build), CVE-2024-23653 (buildkit)",
        "td builds no image by commands of a file",
    ),
    (
        "CVE-2020-5291 (bubblewrap)",
        "the programs are not set-user-id: what is left has no more than the caller",
    ),
    (
        "CVE-2020-13401 (docker), CVE-2024-32473 (docker)",
        "no network but loopback, or the caller's",
    ),
    ("CVE-2021-3995, CVE-2021-3996 (util-linux umount)", "nothing of td is set-user-id"),
    (
        "CVE-2021-20291 (containers/storage)",
        "no layer is unpacked over another: whiteouts are the kernel's",
    ),
    ("CVE-2022-23648 (containerd)", "an image is a directory that is only read"),
    ("CVE-2021-43784 (runc)", "no message of netlink carries a length of the container's"),
    ("CVE-2021-43816 (containerd)", "no label of a volume is changed"),
    ("CVE-2024-41110 (docker)", "no daemon is asked for anything"),
    (
        "CVE-2024-42472 (flatpak), CVE-2024-1753 (buildah), CVE-2025-9566 (podman)",
        "the source of a volume is the caller's word, followed on the host: the manual says so",
    ),
    ("CVE-2025-47290 (containerd)", "td pulls nothing"),
];
