//! The report: tables, as Markdown on standard output, as JSON, and the first of times as a picture.

use std::fmt::{Display, Write};
use std::path::Path;

use crate::Result;
use crate::place;

/// A table with a sentence above it. Each row begins with a name.
pub struct Table {
    title: String,
    about: String,
    head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// A cell.
pub fn cell(value: impl Display) -> String {
    value.to_string()
}

impl Table {
    pub fn new(title: &str, about: &str, head: &[&str]) -> Table {
        let head = head.iter().map(|word| word.to_string()).collect();
        Table { title: title.into(), about: about.into(), head, rows: Vec::new() }
    }

    fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        if !self.about.is_empty() {
            let _ = writeln!(text, "{}\n", self.about);
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        text += &line(&self.head);
        let rule: Vec<_> =
            (0..self.head.len()).map(|i| if i == 0 { "---" } else { "---:" }.to_string()).collect();
        text += &line(&rule);
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }

    fn json(&self) -> String {
        let cells =
            |cells: &[String]| cells.iter().map(|cell| json(cell)).collect::<Vec<_>>().join(", ");
        let rows: Vec<_> = self.rows.iter().map(|row| format!("      [{}]", cells(row))).collect();
        let (title, about) = (json(&self.title), json(&self.about));
        let (head, rows) = (cells(&self.head), rows.join(",\n"));
        format!(
            "    {{\"title\": {title}, \"about\": {about}, \"columns\": [{head}], \"rows\": [\n{rows}]}}"
        )
    }
}

/// A number as it is, all else as a string.
fn json(text: &str) -> String {
    if text.parse::<f64>().is_ok_and(f64::is_finite)
        && text.starts_with(|c: char| c.is_ascii_digit())
    {
        return text.into();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// All tables of a run.
pub struct Report {
    /// What it was measured on.
    pub machine: String,
    tables: Vec<Table>,
    /// Name and ratio, of the picture.
    pub bars: Vec<(String, f64)>,
}

impl Report {
    pub fn new() -> Report {
        Report { machine: machine(), tables: Vec::new(), bars: Vec::new() }
    }

    /// Add one, and print it.
    pub fn add(&mut self, table: Table) {
        td::sys::print(&(table.markdown() + "\n"));
        self.tables.push(table);
    }

    pub fn write(&self, json_file: Option<&Path>, svg_file: Option<&Path>) -> Result<()> {
        if let Some(file) = json_file {
            let tables: Vec<_> = self.tables.iter().map(Table::json).collect();
            let machine = json(&self.machine);
            let text = format!(
                "{{\n  \"machine\": {machine},\n  \"tables\": [\n{}]\n}}\n",
                tables.join(",\n")
            );
            place::write(file, text)?;
        }
        svg_file.map_or(Ok(()), |file| place::write(file, self.svg()))
    }

    /// Bars: how many times the floor each takes.
    fn svg(&self) -> String {
        let (left, width, row) = (300.0, 460.0, 22.0);
        let most = self.bars.iter().map(|(_, ratio)| *ratio).fold(1.0, f64::max);
        let height = 40.0 + row * self.bars.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 820 {height}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"820\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"10\" y=\"20\">Start and end of a container, as a multiple of what the kernel charges for it \
             (the floor)</text>\n"
        );
        for (i, (name, ratio)) in self.bars.iter().enumerate() {
            let y = 32.0 + row * i as f64;
            let bar = width * ratio / most;
            let text = y + 14.0;
            let fill = if name.starts_with("td-run") || name.starts_with("chain") {
                "#2a6f97"
            } else {
                "#9aa5b1"
            };
            let name = name.replace('&', "&amp;").replace('<', "&lt;");
            let (bar_end, name_end) = (left + bar + 6.0, left - 8.0);
            let _ = writeln!(
                svg,
                "<text x=\"{name_end}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{left}\" y=\"{y}\" width=\"{bar:.1}\" height=\"17\" fill=\"{fill}\"/>\
                 <text x=\"{bar_end:.1}\" y=\"{text}\">{ratio:.2}</text>"
            );
        }
        svg + "</svg>\n"
    }
}

/// The kernel, the processors, the way cgroups are mounted, and how busy it is.
fn machine() -> String {
    let release = place::read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = place::read("/proc/cpuinfo").unwrap_or_default();
    let n = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let v1 = place::read("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.starts_with("0::"))
        .count();
    let load = place::read("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "Linux {}, {n} processors ({model}), {v1} hierarchies of cgroups of version 1, load {load} before",
        release.trim()
    )
}
