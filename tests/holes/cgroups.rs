//! The rows about cgroups, which are tried on each version.

use crate::Attempt::Outside;
use crate::Back::All;
use crate::Control::Root;
use crate::Hole;
use crate::calls::UNCONFINED;

pub const CGROUPS: &[Hole] = &[Hole {
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
}];
