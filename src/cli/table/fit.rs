//! Which columns of a table fit into a line.

use super::GAP;

/// The space that the texts of a column need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnWidth {
    /// They are never cut.
    Fixed,
    /// They are cut.
    Flexible {
        /// The least width.
        least: usize,
        /// The width that this column gets before less important columns get any.
        preferred: usize,
    },
}

/// A column of a table that is fitted to a width. A column without any text is omitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The title.
    pub title: &'static str,
    /// The order in which columns get space: 0 first, and always.
    pub rank: u8,
    /// The space that it needs.
    pub width: ColumnWidth,
    /// Whether its texts follow on a second line if it does not fit.
    pub continues: bool,
}

impl Column {
    /// A column that is never cut, and left out if it does not fit.
    #[must_use]
    pub const fn fixed(title: &'static str, rank: u8) -> Self {
        Self {
            title,
            rank,
            width: ColumnWidth::Fixed,
            continues: false,
        }
    }

    /// A column that is cut. It follows on a second line if it does not fit.
    #[must_use]
    pub const fn flexible(title: &'static str, rank: u8, least: usize, preferred: usize) -> Self {
        Self {
            title,
            rank,
            width: ColumnWidth::Flexible { least, preferred },
            continues: true,
        }
    }

    fn is_flexible(&self) -> bool {
        matches!(self.width, ColumnWidth::Flexible { .. })
    }

    /// The column, which follows on a second line if it does not fit.
    #[must_use]
    pub const fn continued(self) -> Self {
        Self {
            continues: true,
            ..self
        }
    }
}

/// Where the columns are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The columns of the first line, from left to right, with their widths.
    pub first: Vec<(usize, usize)>,
    /// The columns of the second line: those that are never cut, then the others, each the most important one first.
    pub second: Vec<usize>,
}

/// Fits columns into `width`. `natural` has the width of the longest text of each column, 0 for a column without text.
#[must_use]
pub fn fit(columns: &[Column], natural: &[usize], width: Option<usize>) -> Layout {
    let mut ranked: Vec<usize> = (0..columns.len()).filter(|index| natural[*index] > 0).collect();
    let width = width.unwrap_or(usize::MAX);
    ranked.sort_by_key(|index| columns[*index].rank);
    let mut layout = Layout {
        first: Vec::new(),
        second: Vec::new(),
    };
    let mut left = width;
    for index in &ranked {
        let column = &columns[*index];
        let gap = if layout.first.is_empty() { 0 } else { GAP };
        let (least, preferred) = match column.width {
            ColumnWidth::Fixed => (natural[*index], natural[*index]),
            ColumnWidth::Flexible { least, preferred } => {
                (least.min(natural[*index]), preferred.min(natural[*index]))
            }
        };
        let is_required = column.rank == 0;
        match [preferred, least]
            .into_iter()
            .find(|needed| needed.saturating_add(gap) <= left)
        {
            Some(needed) => {
                left -= needed + gap;
                layout.first.push((*index, needed));
            }
            None if is_required => {
                left = left.saturating_sub(least + gap);
                layout.first.push((*index, least));
            }
            None if column.continues => layout.second.push(*index),
            None => {}
        }
    }
    // What is left goes to columns that are cut, the most important one first.
    for (index, given) in &mut layout.first {
        let more = natural[*index].saturating_sub(*given).min(left);
        if columns[*index].is_flexible() {
            *given += more;
            left -= more;
        }
    }
    layout.first.sort_unstable();
    // A long text that may be cut must not cut the others.
    layout.second.sort_by_key(|index| columns[*index].is_flexible());
    layout
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn column(rank: u8, width: ColumnWidth, continues: bool) -> Column {
        Column {
            title: "T",
            rank,
            width,
            continues,
        }
    }

    const FLEXIBLE: ColumnWidth = ColumnWidth::Flexible {
        least: 10,
        preferred: 20,
    };
    const COLUMNS: [Column; 4] = [
        column(0, ColumnWidth::Fixed, false),
        column(3, ColumnWidth::Fixed, false),
        column(1, ColumnWidth::Fixed, true),
        column(2, FLEXIBLE, true),
    ];

    #[test]
    fn the_most_important_columns_stay() {
        let fitted = |natural: [usize; 4], width| {
            let layout = fit(&COLUMNS, &natural, width);
            (layout.first, layout.second)
        };
        let natural = [36, 8, 9, 30];
        let all = vec![(0, 36), (1, 8), (2, 9), (3, 30)];
        assert_eq!(fitted(natural, None), (all.clone(), vec![]));
        assert_eq!(fitted(natural, Some(89)), (all, vec![]));
        // The flexible column is cut first, down to what it prefers.
        assert_eq!(fitted(natural, Some(80)).0, [(0, 36), (1, 8), (2, 9), (3, 21)]);
        assert_eq!(fitted(natural, Some(78)).0, [(0, 36), (2, 9), (3, 29)]);
        assert_eq!(fitted(natural, Some(60)).0, [(0, 36), (2, 9), (3, 11)]);
        // Then it moves to the second line, and a less important one has space.
        assert_eq!(
            fitted(natural, Some(58)),
            (vec![(0, 36), (1, 8), (2, 9)], vec![3])
        );
        assert_eq!(fitted(natural, Some(50)), (vec![(0, 36), (2, 9)], vec![3]));
        assert_eq!(fitted(natural, Some(40)), (vec![(0, 36)], vec![2, 3]));
        assert_eq!(fitted(natural, Some(10)), (vec![(0, 36)], vec![2, 3]));
        // What is never cut comes first there.
        let columns = [
            COLUMNS[0],
            column(1, FLEXIBLE, true),
            column(2, ColumnWidth::Fixed, true),
        ];
        assert_eq!(fit(&columns, &[36, 90, 36], Some(40)).second, [2, 1]);
        // A column without text needs no space.
        assert_eq!(fitted([36, 8, 0, 0], Some(46)), (vec![(0, 36), (1, 8)], vec![]));
    }
}
