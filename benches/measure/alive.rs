//! Many containers at once: how long the start of another takes, and what each of them costs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::candidates::found;
use crate::place::{self, Place};
use crate::report::{Report, Table, cell};
use crate::{Asked, Result, plan};

/// Ended with us, whatever happens.
struct Alive<'a> {
    place: &'a Place,
    running: Vec<(String, Child)>,
}

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        for (name, child) in &mut self.running {
            let ended = plan::end(&self.place.state.join("containers").join(name).join("pid"));
            ended.iter().for_each(|()| drop(child.wait()));
        }
    }
}

/// What each form is called, with its directory.
const FORMS: [(&str, &str); 4] = [
    ("usual/td", "`td`"),
    ("usual/separate", "separate"),
    ("small/td", "`td`, small"),
    ("small/separate", "separate, small"),
];

pub fn measure(place: &Place, asked: &Asked, report: &mut Report) -> Result<()> {
    report.add(starts(place, asked.alive)?);
    let count = asked.alive.min(100);
    let about = "td-run by dash, kB of each, medians: what is charged to its cgroup, of which its command is a part; \
                 private memory of the parent that waits, of process 1, and of the command.";
    let head = ["td-run with", "charged", "parent", "process 1", "command"];
    let mut table = Table::new(&format!("Memory of one of {count} containers"), about, &head);
    for (form, called) in FORMS {
        if place.form(form).is_some() {
            let mut alive = Alive { place, running: Vec::new() };
            (1..=count).try_for_each(|i| alive.start(form, i))?;
            let mut row = vec![called.to_string()];
            row.extend(memory(place, &alive)?);
            table.rows.push(row);
        }
    }
    report.add(table);
    Ok(())
}

/// How long the start of another takes.
fn starts(place: &Place, count: usize) -> Result<Table> {
    let mut alive = Alive { place, running: Vec::new() };
    let mut starts = Vec::new();
    for i in 1..=count {
        let begin = Instant::now();
        alive.start("usual/td", i)?;
        starts.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let about = "td-run by dash with `td`, from the clone to the first word of the command: medians of ten.";
    let mut table =
        Table::new("Start of the nth container", about, &["n", "ms", "ratio to the first"]);
    // The nth and nine before it; the first and nine after it.
    let around = |n: usize| {
        let mut own: Vec<_> = starts.iter().skip(n.saturating_sub(10)).take(10).copied().collect();
        own.sort_by(f64::total_cmp);
        own.get(own.len() / 2).copied().unwrap_or(0.0)
    };
    let mut counts = vec![1, 50, 100, 250, 500, count];
    counts.retain(|n| *n <= count);
    counts.dedup();
    for n in counts {
        let ratio = format!("{:.2}", around(n) / around(1));
        table.rows.push(vec![cell(n), format!("{:.2}", around(n)), ratio]);
    }
    Ok(table)
}

impl Alive<'_> {
    /// Start one, up to the first word of its command.
    fn start(&mut self, form: &str, number: usize) -> Result<()> {
        let name = format!("{}-{number}", self.place.name);
        let program = self.place.work.join(form).join("td-run").display().to_string();
        let mut words = self.place.td_run_words(&[found("dash")?, program], &self.place.state);
        words.truncate(words.len() - 2);
        words.extend([&name, "/bin/true", "wait"].map(String::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("td-run: {e}"))?;
        let out = child.stdout.as_mut().ok_or("a pipe")?;
        out.read_exact(&mut [0]).map_err(|e| format!("{name} did not start: {e}"))?;
        self.running.push((name, child));
        Ok(())
    }
}

/// What each costs, in kB: medians.
fn memory(place: &Place, alive: &Alive) -> Result<Vec<String>> {
    let mut of = [const { Vec::new() }; 4];
    for (name, child) in &alive.running {
        let pid_file = place.state.join("containers").join(name).join("pid");
        let init = place::read(&pid_file)?.lines().next().unwrap_or_default().to_string();
        let command = place::read(format!("/proc/{init}/task/{init}/children"))?;
        let parent = child.id().to_string();
        let kb =
            [charge(place, name)?, private(&parent)?, private(&init)?, private(command.trim())?];
        of.iter_mut().zip(kb).for_each(|(list, kb)| list.push(kb));
    }
    let median = |mut list: Vec<u64>| {
        list.sort_unstable();
        cell(list.get(list.len() / 2).unwrap_or(&0))
    };
    Ok(of.map(median).to_vec())
}

/// What is charged to the cgroup of a container, with what is below it.
fn charge(place: &Place, name: &str) -> Result<u64> {
    let own = format!("c-{name}-");
    let memory = place.plan.words.chunks(2).map(|pair| Path::new(&pair[1]));
    let mut dirs =
        memory.filter(|path| path.starts_with("/sys/fs/cgroup")).filter_map(Path::parent);
    let find = |dir: &Path| -> Option<PathBuf> {
        let mut entries = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
        entries.find(|path| {
            path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&own))
        })
    };
    let files = ["memory.usage_in_bytes", "memory.current"];
    let file = dirs.find_map(|dir| {
        let cgroup = find(dir)?;
        files.iter().map(|file| cgroup.join(file)).find(|file| file.exists())
    });
    let text = place::read(file.ok_or(format!("{name} has no cgroup with a charge of memory"))?)?;
    text.trim()
        .parse::<u64>()
        .map(|bytes| bytes / 1024)
        .map_err(|_| format!("{text}: not a number"))
}

/// Private memory of a process, in kB.
pub fn private(pid: &str) -> Result<u64> {
    let text = place::read(format!("/proc/{pid}/smaps_rollup"))?;
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    let kb = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kb.sum())
}
