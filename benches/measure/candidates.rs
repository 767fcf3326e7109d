//! The candidates: every way to run a container that is compared.

use std::path::Path;
use std::process::Command;

use td::sys::cstring;

use crate::launch::{Candidate, POLICY_FD};
use crate::place::{self, Place, script};
use crate::plan::Plan;
use crate::{Result, oci};

/// What td-run's first line may name, and what it is called.
const SHELLS: [(&str, &[&str]); 3] =
    [("dash", &["/bin/dash"]), ("busybox sh", &["/bin/busybox", "sh"]), ("mksh", &["/bin/mksh"])];

/// The commit that is compared to.
pub const OLD: &str = "the commit compared to";

pub fn all(place: &Place) -> Result<Vec<Candidate>> {
    let mut all = vec![floor(place, &place.state, &place.plan), bare(place)];
    let mut on_tmpfs = floor(place, &place.tmpfs, &place.plan_on_tmpfs);
    on_tmpfs.name = "floor, state on tmpfs".into();
    all.push(on_tmpfs);
    if let Some(dir) = place.form("small") {
        let mut small = floor(place, &place.state, &place.plan);
        small.words[0] = dir.join("floor").display().to_string();
        small.name = "floor, small build".into();
        all.push(small);
    }
    for (form, called) in [
        ("usual/td", "td"),
        ("usual/separate", "separate programs"),
        ("small/td", "td, small"),
        ("small/separate", "separate programs, small"),
        ("old/separate", ""),
    ] {
        let Some(dir) = place.form(form) else { continue };
        let program = dir.join("td-run").display().to_string();
        for (shell, words) in SHELLS {
            let mut words: Vec<_> = words.iter().map(|word| word.to_string()).collect();
            words[0] = found(&words[0])?;
            words.push(program.clone());
            if called.is_empty() {
                let state = place.work.join("old/state");
                place::make(&state, 0o700)?;
                let mut old = Candidate::new(OLD, place.td_run_words(&words, &state));
                old.note = "as that commit does it";
                all.push(old);
                break;
            }
            let words = place.td_run_words(&words, &place.state);
            all.push(Candidate::new(&format!("td-run, {shell}, {called}"), words));
        }
        if !called.is_empty() {
            all.push(Candidate::new(&format!("chain alone, {called}"), chain(place, &dir)?));
        }
    }
    let words = [found("dash")?, place.work.join("usual/td/td-run").display().to_string()];
    let mut on_tmpfs = Candidate::new(
        "td-run, dash, td, state on tmpfs",
        place.td_run_words(&words, &place.tmpfs),
    );
    on_tmpfs.floor = "floor, state on tmpfs";
    all.push(on_tmpfs);
    let mut in_memory = place.td_run_words(&words, &place.state);
    in_memory.insert(2, "--tmp-overlay".into());
    all.push(Candidate::new("td-run, dash, td, --tmp-overlay", in_memory));
    all.extend(peers(place)?);
    Ok(all)
}

/// A program by its path, as PATH has it.
pub fn found(name: &str) -> Result<String> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let path = std::env::var("PATH").unwrap_or_default();
    let path = path.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file());
    path.map(|path| path.display().to_string()).ok_or(format!("{name} is not installed"))
}

pub fn floor(place: &Place, state: &Path, plan: &Plan) -> Candidate {
    let paths =
        [&place.work.join("floor"), state, Path::new(&place.name), &place.image, &place.policy];
    let mut words: Vec<_> = paths.map(|path| path.display().to_string()).to_vec();
    words.extend(plan.words.iter().cloned());
    words.extend(["--", "@"].map(String::from));
    Candidate::new("floor", words)
}

fn bare(place: &Place) -> Candidate {
    let floor = floor(place, &place.state, &Plan::default());
    let mut words = floor.words;
    words.insert(1, "--bare".into());
    words.remove(2); // the state
    // Masks and what is read-only, but no cgroups.
    let inside = place
        .plan
        .words
        .chunks(2)
        .filter(|pair| pair[0].starts_with("mask") || pair[0] == "read-only");
    let at = words.len() - 2;
    words.splice(at..at, inside.flatten().cloned());
    let mut bare = Candidate::new("bare floor", words);
    bare.floor = "bare floor";
    bare.note = "no state, no cgroup, no overlay";
    bare
}

/// The command line that td-run becomes: a td-lock that prints it stands in for ours.
fn chain(place: &Place, form: &Path) -> Result<Vec<String>> {
    let print = place.work.join("print");
    let _ = std::fs::remove_dir_all(&print);
    place::make(&print, 0o700)?;
    place::copy(&form.join("td-run"), &print.join("td-run"))?;
    let text = "#!/bin/sh\nprintf '%s\\n' \"$0\" \"$@\"\n";
    script(&print.join("td-lock"), text)?;
    if form.join("td").is_file() {
        script(&print.join("td"), text)?;
    }
    let words = place.td_run_words(&[print.join("td-run").display().to_string()], &place.state);
    let said =
        Command::new(&words[0]).args(&words[1..]).output().map_err(|e| format!("td-run: {e}"))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let words = said.lines().map(|word| match word.strip_prefix(&*print.to_string_lossy()) {
        Some(rest) => format!("{}{rest}", form.display()),
        None => word.to_string(),
    });
    let words: Vec<_> = words.collect();
    match words.iter().filter(|word| *word == "@").count() {
        1 => Ok(words),
        _ => Err(format!(
            "td-run did not become a chain with its command at the end: {}",
            words.join(" ")
        )),
    }
}

fn peers(place: &Place) -> Result<Vec<Candidate>> {
    let bundle = |name: &str, kind: &str| -> Result<Candidate> {
        let root = place.work.join(name).display().to_string();
        let words = [&found(name)?, "--root", &root, "run", "--bundle", kind, &place.name];
        Ok(Candidate::new(name, words.map(String::from).to_vec()))
    };
    let mut runc = bundle("runc", "@limits")?;
    runc.note = "no overlay: the root is the image";
    let mut crun = bundle("crun", if place.only_v2.is_some() { "@no-limits" } else { "@limits" })?;
    crun.mounts = place.only_v2.clone();
    crun.note = match &crun.mounts {
        None => runc.note,
        Some(_) => {
            "the same; it refuses hybrid cgroups, so it sees version 2 alone, without controllers: one cgroup, no limit"
        }
    };
    let mut bwrap = Candidate::new("bwrap", oci::bwrap(place, POLICY_FD)?);
    bwrap.policy = Some(cstring(place.policy.to_string_lossy().as_bytes()));
    bwrap.floor = "bare floor";
    bwrap.note = "no state, no cgroup of its own, no overlay, no masks";
    Ok(vec![runc, crun, bwrap])
}
