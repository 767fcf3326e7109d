//! Images of many layers.

use td::sys::Cx;

use crate::candidates::found;
use crate::launch::Candidate;
use crate::place::{self, Place};
use crate::report::{Report, Table, cell};
use crate::rounds::{median, ms, rounds};
use crate::{Asked, Result};

pub fn measure(cx: &Cx, place: &Place, asked: &Asked, report: &mut Report) -> Result<()> {
    let counts: &[usize] = if asked.quick { &[1, 50] } else { &[1, 10, 50, 100, 250, 500] };
    let layers = place.work.join("layers");
    for i in 1..counts.iter().copied().max().unwrap_or(1) {
        place::make(&layers.join(format!("{i}/layer")), 0o755)?;
        place::write(&layers.join(format!("{i}/layer/{i}")), "")?;
    }
    let mut all = Vec::new();
    for count in counts {
        let program = [found("dash")?, place.work.join("usual/td/td-run").display().to_string()];
        let mut words = place.td_run_words(&program, &place.state);
        let at = words.iter().position(|word| word == "--image").unwrap_or(2);
        let below = (1..*count).map(|i| layers.join(i.to_string()).display().to_string());
        words.splice(at..at, below.flat_map(|layer| ["--image".to_string(), layer]));
        all.push(Candidate::new(&cell(count), words));
    }
    let samples = rounds(cx, place, &all, asked.rounds.div_ceil(6), None)?;
    let mut table = Table::new(
        "Layers",
        "td-run by dash with `td`: the ratio is to one layer.",
        &["layers", "median", "ratio"],
    );
    for (candidate, own) in all.iter().zip(&samples) {
        let ratio = format!("{:.2}", median(own) / median(&samples[0]));
        table.rows.push(vec![candidate.name.clone(), ms(median(own)), ratio]);
    }
    report.add(table);
    Ok(())
}
