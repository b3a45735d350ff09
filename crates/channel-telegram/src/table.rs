//! A table as lines of characters of one width, for a place that knows none. Pure.

/// Columns up to which the cells of a table are filled up, so that a wide cell does not make all others wide.
const WIDEST: usize = 48;

/// The table; its first row is its head.
pub(crate) fn text(rows: &[Vec<String>]) -> String {
    let width = |cell: &String| cell.trim().chars().count().min(WIDEST);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|n| rows.iter().filter_map(|row| row.get(n)).map(width).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{:<width$}", cell.trim())).collect();
        cells.join(" | ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if lines.len() > 1 {
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        lines.insert(1, rule.join("-|-"));
    }
    lines.join("\n")
}
