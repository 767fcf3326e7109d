//! Inits that wait: their memory, and how often they wake up.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::alive::private;
use crate::candidates::found;
use crate::place::{self, Place};
use crate::report::{Report, Table, cell};
use crate::{Asked, Result};

/// A child that is ended with us.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        // The init passes it on; the command ends by it.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

pub fn measure(place: &Place, asked: &Asked, report: &mut Report) -> Result<()> {
    let seconds = if asked.quick { 1 } else { 10 };
    let plain = place.image.join("bin/true").display().to_string();
    let td = |dir: &str| place.form(dir).map(|dir| dir.join("td-init").display().to_string());
    let mut all =
        vec![("td-init", vec![td("usual/separate").ok_or("td-init is missing")?, "--".into()])];
    all.extend(td("usual/td").map(|program| ("td-init, of td", vec![program, "--".into()])));
    all.extend(td("small/separate").map(|program| ("td-init, small", vec![program, "--".into()])));
    all.push(("tini", vec![found("tini")?, "-s".into(), "--".into()]));
    all.push(("dumb-init", vec![found("dumb-init")?, "--".into()]));
    all.push(("catatonit", vec![found("catatonit")?, "--".into()]));
    let mut running = Vec::new();
    for (name, words) in all {
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args([&plain, "wait"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map(Waiting).map_err(|e| format!("{name}: {e}"))?;
        let out = child.0.stdout.as_mut().ok_or("a pipe")?;
        std::io::Read::read_exact(out, &mut [0])
            .map_err(|e| format!("{name} did not start: {e}"))?;
        running.push((name, child));
    }
    sleep(Duration::from_millis(300));
    let switches = |child: &Waiting| switches(child.0.id());
    let before = running.iter().map(|(_, child)| switches(child)).collect::<Result<Vec<_>>>()?;
    sleep(Duration::from_secs(seconds));
    let title = format!("Inits that wait for a command, {seconds} seconds");
    let about = "Private memory in kB, and how often the process woke up.";
    let mut table = Table::new(&title, about, &["init", "kB", "wake-ups"]);
    for ((name, child), before) in running.iter().zip(before) {
        let (kb, woke) = (private(&child.0.id().to_string())?, switches(child)? - before);
        table.rows.push(vec![name.to_string(), cell(kb), cell(woke)]);
    }
    report.add(table);
    Ok(())
}

/// How often a process has gone to sleep.
fn switches(pid: u32) -> Result<u64> {
    let status = place::read(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|n| n.trim().parse().ok()).ok_or("no count of context switches".into())
}
