//! Columns for a terminal. Not what stands in them. Invariant: no cell ends a line or steers the
//! terminal, and no line ends in spaces.

/// Rows of cells under a head, columns as wide as their widest cell.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    align: Vec<Align>,
}

/// Where a cell stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

impl Table {
    /// A table with these columns and no rows.
    pub(crate) fn new(columns: &[(&str, Align)]) -> Table {
        Table {
            rows: vec![columns.iter().map(|(name, _)| (*name).to_owned()).collect()],
            align: columns.iter().map(|(_, align)| *align).collect(),
        }
    }

    /// Adds a row; it has one cell per column.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.align.len(), "one cell per column");
        let shown = |cell: String| cell.replace(char::is_control, "?");
        self.rows.push(cells.map(shown).into());
    }

    /// The lines, the head first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.align.len()).map(width).collect();
        self.rows
            .iter()
            .map(|row| self.line(row, &widths))
            .collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, align), width) in row.iter().zip(&self.align).zip(widths) {
            match align {
                Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                Align::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Align, Table};

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("backend", Align::Left), ("total", Align::Right)]);
        table.row(["a".to_owned(), "10".to_owned()]);
        table.row(["b\u{1b}[2J".to_owned(), "100000".to_owned()]);
        assert_eq!(
            table.lines(),
            ["backend   total", "a            10", "b?[2J    100000"]
        );
    }
}
