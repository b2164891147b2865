//! Tables for people, with aligned columns.

use console::{measure_text_width, truncate_str};

use super::terminal::{TerminalStyle, TextStyle};

/// Columns are separated by this many blanks.
const GAP: usize = 2;

/// One cell of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    style: Option<TextStyle>,
}

impl Cell {
    /// A cell in this style.
    #[must_use]
    pub fn styled(text: String, style: Option<TextStyle>) -> Self {
        Self { text, style }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, style: None }
    }
}

/// Rows that are not printed yet. A table can be printed in parts; its columns only grow from part to part.
#[derive(Debug)]
pub struct Table {
    style: TerminalStyle,
    /// The width at which lines are cut; `None` for no cut.
    width: Option<usize>,
    /// `None` once it is printed.
    header: Option<Vec<Cell>>,
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
}

impl Table {
    /// A table with this header, cut at `width` columns of the terminal.
    #[must_use]
    pub fn new(header: &[&str], style: TerminalStyle, width: Option<usize>) -> Self {
        let bold = |name: &&str| Cell::styled((*name).to_owned(), Some(TextStyle::Bold));
        Self {
            style,
            width,
            header: Some(header.iter().map(bold).collect()),
            rows: Vec::new(),
            widths: vec![0; header.len()],
        }
    }

    /// Adds a row with as many cells as the header.
    pub fn add(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// How many rows are not printed yet.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The rows since the last call, one per line, with the header before the first one.
    pub fn take(&mut self) -> String {
        let mut rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return String::new();
        }
        rows.splice(0..0, self.header.take());
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(&cell.text));
            }
        }
        let mut text = String::new();
        for row in &rows {
            let line = self.line(row);
            match self.width {
                Some(width) => text.push_str(&truncate_str(&line, width, "…")),
                None => text.push_str(&line),
            }
            text.push('\n');
        }
        text
    }

    fn line(&self, row: &[Cell]) -> String {
        let mut line = String::new();
        let mut blanks = 0;
        for (cell, width) in row.iter().zip(&self.widths) {
            // A line does not end with blanks.
            if !cell.text.is_empty() {
                line.push_str(&" ".repeat(blanks));
                blanks = 0;
                match cell.style {
                    Some(style) => line.push_str(&self.style.paint(style, &cell.text)),
                    None => line.push_str(&cell.text),
                }
            }
            blanks += width - measure_text_width(&cell.text) + GAP;
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: TerminalStyle = TerminalStyle {
        colour: false,
        unicode: true,
    };

    fn row(texts: [&str; 3]) -> Vec<Cell> {
        texts.map(|text| text.to_owned().into()).to_vec()
    }

    #[test]
    fn columns_are_aligned_and_cut_at_the_terminal() {
        let mut table = Table::new(&["ID", "OBJECTS", "RESULT"], PLAIN, None);
        let mut narrow = Table::new(&["ID", "OBJECTS", "RESULT"], PLAIN, Some(18));
        for table in [&mut table, &mut narrow] {
            table.add(row(["operation-1", "連絡先", ""]));
            table.add(row(["op-2", "", "done"]));
        }
        assert_eq!(
            table.take(),
            "ID           OBJECTS  RESULT\noperation-1  連絡先\nop-2                  done\n"
        );
        assert_eq!(
            narrow.take(),
            "ID           OBJE…\noperation-1  連絡…\nop-2             …\n"
        );
        // The next part has the columns of the first, without its header.
        assert_eq!(table.take(), "");
        table.add(row(["op-3", "", "done"]));
        assert_eq!(table.take(), "op-3                  done\n");
    }
}
