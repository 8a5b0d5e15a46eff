//! Tables for people: columns as wide as they must be, two blanks between them, no trailing blanks.

/// A table, with a heading or without.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    headings: usize,
}

impl Table {
    /// A table with these columns; [`Table::default`] has no heading.
    pub fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()], headings: 1 }
    }

    /// Adds a row. Control characters are made visible: cells can hold what strangers wrote.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == self.headings
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The text with every line moved to the right.
pub fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// The text with control characters escaped, so that no label can steer a terminal.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_show() {
        let mut table = Table::new(["HOST", "SERVICE"]);
        table.row(["demo.local".into(), "demo".into()]);
        table.row(["a".into(), "b\x1b[31m\n".into()]);
        assert_eq!(table.to_string(), "HOST        SERVICE\ndemo.local  demo\na           b\\u{1b}[31m\\n\n");
    }
}
