//! Rounds: all candidates in turn, in an order that moves on, and what they took.

use std::fs::File;
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use td::sys::Cx;

use crate::candidates::{self, found};
use crate::check::nothing_is_left;
use crate::launch::{Candidate, Sample};
use crate::place::Place;
use crate::report::{Report, Table};
use crate::{Asked, Result};

/// What is said of all samples of a candidate.
type Of = fn(&[Sample]) -> f64;

/// Those that are not td.
const PEERS: [&str; 4] = ["runc", "crun", "bwrap", candidates::OLD];

/// The idle time before a launch that is cold.
const IDLE: Duration = Duration::from_millis(100);

/// Start and end of a container, back to back and cold.
pub fn containers(
    cx: &Cx,
    place: &Place,
    all: &[Candidate],
    asked: &Asked,
    report: &mut Report,
) -> Result<()> {
    let samples = rounds(cx, place, all, asked.rounds, None)?;
    let title = format!("A container with `true`, back to back, {} rounds", asked.rounds);
    let about = format!(
        "{}. Milliseconds from the clone to the end; the ratio is to the floor (or the bare floor) of the same rounds.",
        report.machine
    );
    report.add(table(&title, &about, all, &samples));
    report.bars = bars(all, &samples);
    report.add(against(all, &samples));
    let cold = asked.rounds.div_ceil(3);
    let samples = rounds(cx, place, all, cold, Some(IDLE))?;
    let title = format!("The same, cold: 100 ms idle before each launch, {cold} rounds");
    report.add(table(&title, "", all, &samples));
    nothing_is_left(place)
}

/// One step alone, where a program of others does the same.
pub fn steps(cx: &Cx, place: &Place, asked: &Asked, report: &mut Report) -> Result<()> {
    let plain = place.image.join("bin/true").display().to_string();
    let td = |tool: &str| place.work.join("usual/separate").join(tool).display().to_string();
    let step = |name: &str, words: &[&str]| {
        let mut words: Vec<_> = words.iter().map(|word| word.to_string()).collect();
        words.push(plain.clone());
        Candidate { floor: "true alone", ..Candidate::new(name, words) }
    };
    let all = [
        step("true alone", &[]),
        step("td-init", &[&td("td-init"), "--"]),
        step("tini", &[&found("tini")?, "-s", "--"]),
        step("dumb-init", &[&found("dumb-init")?, "--"]),
        step("catatonit", &[&found("catatonit")?, "--"]),
        step("td-unshare --mount --pid", &[&td("td-unshare"), "--mount", "--pid"]),
        step("unshare --mount --pid --fork", &[&found("unshare")?, "--mount", "--pid", "--fork"]),
    ];
    let samples = rounds(cx, place, &all, asked.rounds, None)?;
    let about = "Launched with a `true` of 0.3 MB; the ratio is to that alone.";
    report.add(table("One step alone", about, &all, &samples));
    Ok(())
}

/// The samples of each candidate, a round each.
pub fn rounds(
    cx: &Cx,
    place: &Place,
    all: &[Candidate],
    rounds: usize,
    idle: Option<Duration>,
) -> Result<Vec<Vec<Sample>>> {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|e| format!("/dev/null: {e}"))?;
    let lines: Vec<_> = all.iter().map(|candidate| candidate.line(&place.bundles, None)).collect();
    let mut samples: Vec<Vec<Sample>> = all.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..=rounds {
        for i in 0..all.len() {
            let i = (i + round) % all.len();
            idle.into_iter().for_each(sleep);
            let (sample, status) = lines[i].launch(cx, null.as_fd())?;
            if status != 0 {
                // Once more, for what it says.
                let again = lines[i].prints(cx, &place.log, &[0]);
                let said = again.map_or_else(|said| said, |_| "not when it was run again".into());
                return Err(format!(
                    "{} ended with {status} in round {round}: {said}",
                    all[i].name
                ));
            }
            // The first round warms up.
            if round > 0 {
                samples[i].push(sample);
            }
        }
    }
    Ok(samples)
}

/// A quantile of what `of` says.
pub fn quantile(samples: &[Sample], of: fn(&Sample) -> f64, at: f64) -> f64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * at).round() as usize;
    values.get(at).copied().unwrap_or(0.0)
}

pub fn median(samples: &[Sample]) -> f64 {
    quantile(samples, |sample| sample.wall, 0.5)
}

/// td-run, in its ways, against each other program.
fn against(all: &[Candidate], samples: &[Vec<Sample>]) -> Table {
    let peers: Vec<_> = (0..all.len()).filter(|i| PEERS.contains(&&*all[*i].name)).collect();
    let mut head = vec!["medians of"];
    head.extend(peers.iter().map(|i| &*all[*i].name));
    let about =
        "Of the same rounds: below 1, td-run takes less. First wall time, then processor time.";
    let mut table = Table::new("td-run against others", about, &head);
    let of: [(&str, Of); 2] = [("", median), (": processor time", processor)];
    for (what, of) in of {
        for (candidate, own) in all.iter().zip(samples) {
            if candidate.name.starts_with("td-run, dash") {
                let mut row = vec![format!("{}{what}", candidate.name)];
                row.extend(peers.iter().map(|i| format!("{:.2}", of(own) / of(&samples[*i]))));
                table.rows.push(row);
            }
        }
    }
    table
}

fn processor(samples: &[Sample]) -> f64 {
    quantile(samples, |sample| sample.processor, 0.5)
}

/// How many times that of its floor something of a candidate is.
fn ratio(all: &[Candidate], samples: &[Vec<Sample>], i: usize, of: Of) -> String {
    let floor = all.iter().position(|other| other.name == all[i].floor).unwrap_or(0);
    format!("{:.2}", of(&samples[i]) / of(&samples[floor]))
}

fn table(title: &str, about: &str, all: &[Candidate], samples: &[Vec<Sample>]) -> Table {
    let head = ["candidate", "median", "p10", "p90", "ratio", "processor time", "its ratio"];
    let mut table = Table::new(title, about, &head);
    for (i, candidate) in all.iter().enumerate() {
        let mut row = vec![candidate.name.clone()];
        row.extend([0.5, 0.1, 0.9].map(|at| ms(quantile(&samples[i], |sample| sample.wall, at))));
        row.push(ratio(all, samples, i, median));
        row.push(ms(processor(&samples[i])));
        row.push(ratio(all, samples, i, processor));
        table.rows.push(row);
    }
    table
}

pub fn ms(micro: f64) -> String {
    format!("{:.2}", micro / 1000.0)
}

fn bars(all: &[Candidate], samples: &[Vec<Sample>]) -> Vec<(String, f64)> {
    // Against one floor, so that bars of a picture can be compared.
    let floor = median(&samples[0]);
    all.iter()
        .zip(samples)
        .map(|(candidate, samples)| (candidate.name.clone(), median(samples) / floor))
        .collect()
}
