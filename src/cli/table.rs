//! Tables for people, with aligned columns.
//!
//! comfy-table was rejected: it wraps cells where a column should be left out, so that IDs break, and prints no table in
//! parts.

mod fit;

use console::{measure_text_width, truncate_str};

pub use self::fit::Column;
use self::fit::{Layout, fit};

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

    fn painted(&self, text: &str, style: TerminalStyle) -> String {
        match self.style {
            Some(text_style) => style.paint(text_style, text),
            None => text.to_owned(),
        }
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
                Some(width) => text.push_str(&truncate_str(&line, width, self.style.ellipsis())),
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
                line.push_str(&cell.painted(&cell.text, self.style));
            }
            blanks += width - measure_text_width(&cell.text) + GAP;
        }
        line
    }
}

/// Rows that are fitted to a width. They are printed together.
#[derive(Debug)]
pub struct FittedTable {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl FittedTable {
    /// A table of these columns.
    #[must_use]
    pub fn new(columns: &[Column]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row with as many cells as there are columns.
    pub fn add(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The header and the rows as lines, at most `width` wide: as many rows as fit into `height` lines. Returns them with the
    /// number of rows.
    #[must_use]
    pub fn lines(
        &self,
        style: TerminalStyle,
        width: Option<usize>,
        height: Option<usize>,
    ) -> (Vec<String>, usize) {
        if self.rows.is_empty() {
            return (Vec::new(), 0);
        }
        let natural: Vec<usize> = (0..self.columns.len())
            .map(|index| {
                let cells = self.rows.iter().map(|row| measure_text_width(&row[index].text));
                match cells.max() {
                    None | Some(0) => 0,
                    Some(widest) => widest.max(self.columns[index].title.len()),
                }
            })
            .collect();
        let layout = fit(&self.columns, &natural, width);
        let titles: Vec<Cell> = self
            .columns
            .iter()
            .map(|column| Cell::styled(column.title.to_owned(), Some(TextStyle::Bold)))
            .collect();
        let mut lines = vec![first_line(&titles, &layout, style)];
        let mut shown = 0;
        for row in &self.rows {
            let second = second_line(row, &layout, style, width);
            let needed = 1 + usize::from(second.is_some());
            if height.is_some_and(|height| lines.len() + needed > height) {
                break;
            }
            lines.push(first_line(row, &layout, style));
            lines.extend(second);
            shown += 1;
        }
        if let Some(width) = width {
            // Only a line with a required column can be too long.
            for line in &mut lines {
                if measure_text_width(line) > width {
                    *line = truncate_str(line, width, style.ellipsis()).into_owned();
                }
            }
        }
        (lines, shown)
    }
}

fn first_line(row: &[Cell], layout: &Layout, style: TerminalStyle) -> String {
    let mut line = String::new();
    let mut blanks = 0;
    for (index, width) in &layout.first {
        let cell = &row[*index];
        let text = truncate_str(&cell.text, *width, style.ellipsis());
        // A line does not end with blanks.
        if !text.is_empty() {
            line.push_str(&" ".repeat(blanks));
            blanks = 0;
            line.push_str(&cell.painted(&text, style));
        }
        blanks += width.saturating_sub(measure_text_width(&text)) + GAP;
    }
    line
}

/// The texts of the columns that do not fit, if there are any.
fn second_line(row: &[Cell], layout: &Layout, style: TerminalStyle, width: Option<usize>) -> Option<String> {
    let texts = layout.second.iter().map(|index| &*row[*index].text);
    let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    let text = texts.join(&" ".repeat(GAP));
    let width = width.unwrap_or(usize::MAX).saturating_sub(GAP);
    let text = truncate_str(&text, width, style.ellipsis());
    (!text.is_empty()).then(|| format!("{}{}", " ".repeat(GAP), style.paint(TextStyle::Dim, &text)))
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
