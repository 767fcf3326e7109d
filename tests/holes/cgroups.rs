//! The rows about cgroups, which are tried on each version.

use crate::Attempt::Outside;
use crate::Back::{All, Each};
use crate::Comes::{Is, NotHere};
use crate::Control::{Root, Without};
use crate::Hole;
use crate::calls::UNCONFINED;

const DELEGATED: &str = "a user has a cgroup where one is delegated: tests/run";

pub const CGROUPS: &[Hole] = &[
    Hole {
        known: "CVE-2022-0492: release_agent of version 1",
        tried: "a hierarchy is mounted, as it is and as root of a new user and cgroup namespace",
        attempt: Outside(
            "run -v \"$bin:/td:ro\" \"$name\" sh -c 'mkdir /tmp/c
            while IFS=: read -r _ list _; do
                case $list in
                    \"\") set -- -t cgroup2 ;;
                    name=*) set -- -t cgroup -o \"none,$list\" ;;
                    *) set -- -t cgroup -o \"$list\" ;;
                esac
                mount \"$@\" c /tmp/c && echo >>/tmp/c/release_agent && echo mounted
                /td/td-unshare -r -m -C mount \"$@\" c /tmp/c && echo mounted below
            done </proc/self/cgroup 2>/dev/null | sort -u
            echo tried'",
        ),
        back: All("tried"),
        control: Root(UNCONFINED, "mounted below\ntried"),
    },
    Hole {
        known: "CVE-2025-47291 (containerd): a container outside of its cgroup",
        tried: "in some hierarchy the container has no cgroup of its own, but the caller's",
        attempt: Outside(
            "hold
            read -r pid _ <\"$state/containers/$name/pid\"
            grep -v -E '/c-[^/]*/leaf$' \"/proc/$pid/cgroup\"
            release
            echo looked",
        ),
        back: Each([Is("looked"), NotHere(DELEGATED), NotHere(DELEGATED)]),
        control: Without("what is read is what the kernel has"),
    },
    Hole {
        known: "cgroup_namespaces(7): the caller's cgroup as the root of a new mount",
        tried: "without the policy, a cgroup is made in each hierarchy beside the container's",
        attempt: Outside(
            "hold --security-opt seccomp=unconfined -v \"$bin:/td:ro\"
            enter /td/td-unshare -r -m -C sh -c 'mkdir /tmp/c
            while IFS=: read -r _ list _; do
                case $list in
                    \"\") set -- -t cgroup2 ;;
                    name=*) set -- -t cgroup -o \"none,$list\" ;;
                    *) set -- -t cgroup -o \"$list\" ;;
                esac
                mount \"$@\" c /tmp/c && mkdir \"/tmp/c/td-hole-$0\" && umount /tmp/c && echo made
            done </proc/self/cgroup | sort -u' \"$name\"
            # Cgroups of other tests come and go meanwhile.
            find /sys/fs/cgroup -name \"td-hole-$name\" >found 2>/dev/null
            grep -v '/c-[^/]*/leaf/' found
            while read -r cgroup; do rmdir \"$cgroup\"; done <found
            release",
        ),
        back: Each([Is("made"), NotHere(DELEGATED), NotHere(DELEGATED)]),
        control: Without("the cgroups are made: they are found, and removed"),
    },
];
