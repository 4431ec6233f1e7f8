//! Tables for people.

use std::io::{IsTerminal, Write};

/// The widest cell.
const CELL_CHARS_MAX: usize = 60;

/// Prints a table; cells are cut to fit a terminal, and not in a pipe.
pub(crate) fn table(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let cut = std::io::stdout().is_terminal();
    let shown: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell, if cut { CELL_CHARS_MAX } else { 400 })).collect())
        .collect();
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let cells = shown.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.chain([name.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    line(out, &header.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &widths)?;
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    line(out, &rule, &widths)?;
    shown.iter().try_for_each(|row| line(out, row, &widths))
}

fn line(out: &mut impl Write, cells: &[String], widths: &[usize]) -> std::io::Result<()> {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let pad = width.saturating_sub(cell.chars().count());
        text.push_str(cell);
        text.push_str(&" ".repeat(pad + 2));
    }
    writeln!(out, "{}", text.trim_end())
}

/// White space folded, control characters taken out, cut with an ellipsis.
pub(crate) fn one_line(text: &str, chars_max: usize) -> String {
    let folded = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean: String = folded.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().count() <= chars_max {
        return clean;
    }
    let cut: String = clean.chars().take(chars_max.saturating_sub(1)).collect();
    format!("{cut}…")
}

/// A count of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
