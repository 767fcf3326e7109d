//! Sizes of programs.

use std::fs;

use crate::Result;
use crate::candidates::found;
use crate::place::Place;
use crate::report::{Table, cell};

pub fn table(place: &Place) -> Result<Table> {
    let about = "Bytes of each program. Those of others need their libraries, too: `static` says which do not.";
    let mut table =
        Table::new("Sizes", about, &["program", "usual build", "small build", "static"]);
    let size =
        |path: &str| fs::metadata(path).map(|file| file.len()).map_err(|e| format!("{path}: {e}"));
    let usual = place.form("usual/separate").ok_or("no usual build")?;
    let entries = fs::read_dir(&usual).map_err(|e| format!("{}: {e}", usual.display()))?;
    let mut names: Vec<_> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.push("td".into());
    names.sort();
    for name in names.iter().filter(|name| *name != "td-run") {
        let of = |build: &str| {
            let form = if name == "td" { "td" } else { "separate" };
            let path = place.work.join(build).join(form).join(name);
            path.exists().then(|| size(&path.display().to_string())).transpose()
        };
        let row = [of("usual")?, of("small")?].map(|n| n.map_or("-".into(), cell));
        let [usual, small] = row;
        table.rows.push(vec![name.clone(), usual, small, "yes".into()]);
    }
    for name in ["runc", "crun", "bwrap", "unshare", "tini", "dumb-init", "catatonit"] {
        let path = found(name)?;
        let bytes = fs::read(&path).map_err(|e| format!("{path}: {e}"))?;
        let loader = b"/ld-linux";
        let is_static = !bytes.windows(loader.len()).any(|part| part == loader);
        let is_static = if is_static { "yes" } else { "no" };
        table.rows.push(vec![name.into(), cell(bytes.len()), "-".into(), is_static.into()]);
    }
    Ok(table)
}
