//! The plan: what td-run finds out on this machine, read in its trace, and told to the floor.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use td::root::restrict;
use td::sys::Cx;

use crate::Result;
use crate::place::{self, Place};

/// The trace of td-run, and the words for the floor that make the same.
#[derive(Default)]
pub struct Plan {
    pub trace: String,
    pub words: Vec<String>,
}

pub fn of(cx: &Cx, place: &Place, form: &str, state: &Path) -> Result<Plan> {
    let mut traced = place.td_run(form, state);
    traced.words.insert(1, "--trace".into());
    let (_, trace) = traced.line(&place.bundles, None).prints(cx, &place.log, &[0])?;
    let mut words = vec!["record".to_string(), place::read(&place.record)?];
    words.extend(cgroups(&trace, &place.name));
    if !words.iter().any(|word| word == "cgroup") {
        return Err("td-run created no cgroup".into());
    }
    let exists = |path: &str| Path::new(path).exists();
    let paths = |list: &[&std::ffi::CStr]| {
        list.iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    for path in paths(restrict::MASKED).into_iter().filter(|path| exists(path)) {
        let word = if Path::new(&path).is_dir() { "mask-dir" } else { "mask-file" };
        words.extend([word.into(), path]);
    }
    for path in paths(restrict::READ_ONLY).into_iter().filter(|path| exists(path)) {
        words.extend(["read-only".into(), path]);
    }
    Ok(Plan { trace, words })
}

/// The words that create what the trace shows.
fn cgroups(trace: &str, name: &str) -> Vec<String> {
    let (mut words, mut opened) = (Vec::new(), String::new());
    for line in trace.lines() {
        let Some((call, rest)) = line.split_once('(') else { continue };
        let quoted = rest.split('"').nth(1).unwrap_or_default();
        let ok = rest.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'));
        let is_ours =
            quoted.starts_with("/sys/fs/cgroup/") && quoted.contains(&format!("/c-{name}")) && ok;
        match call {
            "mkdirat" if is_ours => words.extend(["cgroup".into(), quoted.into()]),
            "openat" if is_ours && quoted.ends_with("/tasks") => {
                words.extend(["tasks".into(), quoted.into()]);
            }
            "openat" if is_ours && rest.contains("O_WRONLY") => opened = quoted.into(),
            "openat" if is_ours && rest.contains("O_RDONLY|O_CLOEXEC|O_DIRECTORY)") => {
                words.extend(["into".into(), quoted.into()]);
            }
            "write" if !opened.is_empty() => {
                words.extend([format!("write {quoted}"), std::mem::take(&mut opened)]);
            }
            _ => {}
        }
    }
    words
}

/// The default policy, as td itself has compiled it for a container.
pub fn policy(place: &Place) -> Result<()> {
    let line = place.td_run_words(
        &[place.work.join("usual/separate/td-run").display().to_string()],
        &place.state,
    );
    let words = line.iter().skip(1).map(|word| if word == "@" { "/bin/true" } else { word });
    let mut running = Command::new(&line[0]);
    let running = running.args(words).arg("wait").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = running.spawn().map_err(|e| format!("td-run: {e}"))?;
    let mut said = [0];
    let out = running.stdout.as_mut().ok_or("a pipe")?;
    std::io::Read::read_exact(out, &mut said).map_err(|e| format!("td-run did not start: {e}"))?;
    let dir = place.state.join("containers").join(&place.name);
    place::copy(&dir.join("run/policy"), &place.policy)?;
    place::copy(&dir.join("cgroups"), &place.record)?;
    end(&dir.join("pid"))?;
    running.wait().map_err(|e| format!("td-run: {e}"))?;
    Ok(())
}

/// End a container by its pid file.
pub fn end(pid_file: &Path) -> Result<()> {
    let pid = place::read(pid_file)?;
    let pid = pid.lines().next().unwrap_or_default().to_string();
    let done = Command::new("kill").args(["-KILL", &pid]).status();
    if !done.is_ok_and(|status| status.success()) {
        return Err(format!("kill -KILL {pid} failed"));
    }
    for _ in 0..1000 {
        if !pid_file.exists() && !fs::exists(pid_file.parent().unwrap_or(pid_file)).unwrap_or(false)
        {
            return Ok(());
        }
        sleep(Duration::from_millis(5));
    }
    Err(format!("{} is still there", pid_file.display()))
}
