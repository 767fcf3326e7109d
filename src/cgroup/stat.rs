//! What a cgroup uses, and its limits: a key is the same on version 1 and version 2 if it has the same meaning.

use syscalls::Errno;

use crate::cgroup::file::is_gone;
use crate::cgroup::file::{PAGE, join, parent, read_word, sum};
use crate::cgroup::places::ExistingCgroup;
use crate::cgroup::proc_pid_cgroup::bound_to_v1;
use crate::cgroup::tree;
use crate::say::error::Error;
use crate::say::number::decimal;
use crate::say::show::{ascii, number, plain};
use crate::say::text;
use crate::sys::{self, Cx};

/// A file a line, and the keys that are found in it, each with the word before its value. Without a word the value is
/// the whole file; where several lines have the word, as there are several devices, the value is the sum. `/1000`
/// makes microseconds of nanoseconds. Of a file of pressure every value is printed. Of several files that have a key
/// the first counts.
const FILES: &str = "\
memory.current memory.current
memory.usage_in_bytes memory.current
memory.peak memory.peak
memory.max_usage_in_bytes memory.peak
memory.max memory.max
memory.limit_in_bytes memory.max
memory.high memory.high
memory.low memory.low
memory.swap.max memory.swap.max
memory.swap.current memory.swap.current
memory.stat memory.swap.current=total_swap memory.anon=anon memory.anon=total_rss memory.file=file \
memory.file=total_cache
memory.events memory.oom_kill=oom_kill
memory.oom_control memory.oom_kill=oom_kill
cpu.stat cpu.usage_usec=usage_usec cpu.user_usec=user_usec cpu.system_usec=system_usec
cpuacct.usage cpu.usage_usec/1000
cpuacct.usage_user cpu.user_usec/1000
cpuacct.usage_sys cpu.system_usec/1000
cpu.stat cpu.nr_periods=nr_periods cpu.nr_throttled=nr_throttled cpu.throttled_usec=throttled_usec \
cpu.throttled_usec=throttled_time/1000
pids.current pids.current
pids.max pids.max
pids.events pids.refused=max
io.stat io.rbytes=rbytes io.wbytes=wbytes io.rios=rios io.wios=wios
blkio.throttle.io_service_bytes_recursive io.rbytes=Read io.wbytes=Write
blkio.throttle.io_serviced_recursive io.rios=Read io.wios=Write
cpu.pressure
memory.pressure
io.pressure
cgroup.events frozen=frozen
freezer.state frozen";

/// The controllers that count what is used.
const COUNTING: [&[u8]; 4] = [b"memory", b"cpu", b"io", b"pids"];

/// What was found.
#[derive(Default)]
struct Stat {
    keys: Vec<String>,
    text: String,
    json: bool,
}

/// What a cgroup uses and may use, as text: a key and its value a line, or a JSON object.
pub fn text(cx: &Cx, places: &[ExistingCgroup], json: bool) -> Result<String, Error> {
    let mut stat = Stat { json, ..Stat::default() };
    for line in text::split(FILES.as_bytes(), b'\n') {
        let (file, keys) = text::pair(line, b' ').unwrap_or((line, b""));
        // Version 1 first: version 2 has a cpu.stat also where the controller is on version 1.
        for place in places.iter().rev() {
            // Which files there are depends on the controllers that are on, on the version and on the kernel.
            let text = match sys::read_file(cx, None, &join(&place.directory, file)) {
                Err(e) if is_gone(&e) => continue,
                Err(e) if e.is(Errno::EOPNOTSUPP) => continue, // no pressure is measured: psi=0
                other => other?,
            };
            for key in text::split(keys, b' ') {
                stat.add(key, &text);
            }
            if file.ends_with(b".pressure") {
                stat.add_pressure(file, &text);
            }
        }
    }
    let mut populated = false;
    for place in places {
        let pids = tree::processes_below(cx, &place.directory)?;
        populated |= pids.is_some_and(|pids| !pids.is_empty());
    }
    stat.put(b"populated", if populated { "1" } else { "0" });
    if json {
        stat.text.push_str("}\n");
    }
    Ok(stat.text)
}

/// Say what version 2 does not count here, because the cgroup above passes no controllers down.
pub fn say_what_is_not_counted(cx: &Cx, places: &[ExistingCgroup]) -> Result<(), Error> {
    let Some(place) = places.iter().find(|place| place.hierarchy.v2) else { return Ok(()) };
    let on = read_word(cx, &place.directory, b"cgroup.controllers")?.unwrap_or_default();
    for controller in COUNTING {
        if text::has(on.as_bytes(), b' ', controller) || bound_to_v1(cx, controller)? {
            return Ok(());
        }
    }
    let [shown, above] = [&place.directory, &parent(&place.directory)].map(|d| plain(d.to_bytes()));
    cx.say(
        &Error::refusal(format_args!("memory, processes and io of {shown} are not counted"))
            .because(format_args!("{above} passes no controllers down"))
            .way_out(
                "create it below a cgroup that passes controllers down: td-run --cgroup-parent /td",
            ),
    );
    Ok(())
}

impl Stat {
    /// Keys and values are the kernel's and ours: nothing in them must be escaped.
    fn put(&mut self, key: &[u8], value: &str) {
        let key = ascii(key);
        if self.keys.contains(&key) {
            return;
        }
        if self.json {
            let before = if self.keys.is_empty() { "{\"" } else { ", \"" };
            let quote = if value == "max" { "\"" } else { "" };
            self.text.extend([before, &key, "\": ", quote, value, quote]);
        } else {
            self.text.extend([&key, " ", value, "\n"]);
        }
        self.keys.push(key);
    }

    /// Add `KEY=WORD/DIVISOR`, if the text of the file has it.
    fn add(&mut self, key: &[u8], text: &[u8]) {
        let (key, divisor) = key.strip_suffix(b"/1000").map_or((key, 1), |key| (key, 1000));
        let (key, found) = match text::pair(key, b'=') {
            Some((key, word)) => (key, sum(text, word)),
            None => (key, decimal(text.trim_ascii())),
        };
        match found {
            // In version 1, such a number means that there is no limit.
            Some(n) if n > i64::MAX as u64 - PAGE => self.put(key, "max"),
            Some(n) => self.put(key, &number(n / divisor)),
            None => match text.trim_ascii() {
                b"max" => self.put(key, "max"),
                b"FROZEN" => self.put(key, "1"),
                b"FREEZING" | b"THAWED" => self.put(key, "0"),
                _ => {}
            },
        }
    }

    /// Add what stands in a file of pressure: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full` as well.
    fn add_pressure(&mut self, file: &[u8], text: &[u8]) {
        for line in text::lines(text) {
            let (which, values) = text::pair(line, b' ').unwrap_or_default();
            for word in text::split(values, b' ') {
                let (name, value) = text::pair(word, b'=').unwrap_or_default();
                if !name.is_empty() {
                    self.put(&[file, which, name].join(&b'.'), &ascii(value));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_first_value_that_is_found_in_text_and_in_json() {
        let text = |json| {
            let mut stat = Stat { json, ..Stat::default() };
            stat.add(b"memory.max", b"9223372036854771712\n");
            stat.add(b"memory.max", b"5\n");
            stat.add(b"memory.high", b"max\n");
            stat.add(b"cpu.usage_usec/1000", b"12345\n");
            stat.add(b"cpu.none=none", b"12345\n");
            stat.add_pressure(b"io.pressure", b"some avg10=0.05 total=7\nfull avg10=0.00\n");
            stat.text
        };
        let expected = "memory.max max\nmemory.high max\ncpu.usage_usec 12\nio.pressure.some.avg10 0.05\n\
            io.pressure.some.total 7\nio.pressure.full.avg10 0.00\n";
        assert_eq!(text(false), expected);
        let expected = "{\"memory.max\": \"max\", \"memory.high\": \"max\", \"cpu.usage_usec\": 12, \
            \"io.pressure.some.avg10\": 0.05, \"io.pressure.some.total\": 7, \"io.pressure.full.avg10\": 0.00";
        assert_eq!(text(true), expected);
    }
}
