//! Aligned columns from tab separated text, as Go's text/tabwriter aligns them:
//! a column is a run of neighbouring lines that have a cell there which a tab
//! ends. Pure.

/// Minimum cell width and padding of Docker's tables.
pub const LIST: (usize, usize) = (10, 3);

/// Aligns `text`; the last cell of a line belongs to no column.
pub fn align(text: &str, (min_width, padding): (usize, usize)) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|l| l.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|l| vec![0; l.len().saturating_sub(1)]).collect();
    let deepest = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..deepest {
        let mut start = 0;
        while start < lines.len() {
            if widths[start].len() <= column {
                start += 1;
                continue;
            }
            let end = (start..lines.len()).find(|l| widths[*l].len() <= column).unwrap_or(lines.len());
            let longest = lines[start..end].iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
            for line in &mut widths[start..end] {
                line[column] = (longest + padding).max(min_width);
            }
            start = end;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        for (j, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths[i].get(j) {
                out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_runs_of_lines() {
        assert_eq!(align("A\tBB\nlonger than ten\tx\n", LIST), "A                 BB\nlonger than ten   x\n");
        assert_eq!(align("A\tB\n", LIST), "A         B\n");
        assert_eq!(align("a\tb\tc\n\na\tb\n", (2, 1)), "a b c\n\na b\n");
    }
}
