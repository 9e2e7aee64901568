//! Aligned columns, with a line below a row where there is more to say.

use std::fmt::Write;

const GAP: usize = 2;
const INDENT: &str = "    ";
/// A column is not cut below this.
const NARROWEST: usize = 10;

pub(super) struct Table {
    heads: &'static [&'static str],
    rows: Vec<(Vec<Cell>, Option<String>)>,
}

pub(super) struct Cell {
    parts: Vec<String>,
    paint: Paint,
}

/// Whole lines: the one of the heads, and for each row its own and those of its note.
pub(super) struct Printed {
    pub head: String,
    pub rows: Vec<String>,
}

impl Printed {
    pub fn whole(self) -> String {
        self.head + &self.rows.concat()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    None,
    Green,
    Yellow,
    Red,
}

impl Cell {
    pub fn plain(text: impl Into<String>) -> Cell {
        Cell::painted(text, Paint::None)
    }

    pub fn painted(text: impl Into<String>, paint: Paint) -> Cell {
        Cell { parts: vec![harmless(&text.into())], paint }
    }

    pub fn list(parts: Vec<String>) -> Cell {
        Cell { parts: parts.iter().map(|part| harmless(part)).collect(), paint: Paint::None }
    }

    /// Where the width is known, a list is its first entry and how many more there are.
    fn text(&self, short: bool) -> String {
        match &*self.parts {
            [] => "-".into(),
            [first, rest @ ..] if short && !rest.is_empty() => format!("{first} +{}", rest.len()),
            parts => parts.join(","),
        }
    }
}

impl Table {
    pub fn new(heads: &'static [&'static str]) -> Table {
        Table { heads, rows: Vec::new() }
    }

    /// `cells`: one per head. `note`: stands below them.
    pub fn push(&mut self, cells: Vec<Cell>, note: Option<&str>) {
        self.rows.push((cells, note.map(harmless)));
    }

    pub fn print(&self, width: Option<usize>, colour: bool) -> Printed {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|(cells, _)| cells.iter().map(|cell| cell.text(width.is_some())).collect()).collect();
        let mut widths: Vec<usize> = self.heads.iter().map(|head| head.len()).collect();
        for row in &rows {
            for (widest, text) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(text.chars().count());
            }
        }
        if let Some(width) = width {
            fit(&mut widths, width);
        }
        let mut head = String::new();
        let heads: Vec<String> = self.heads.iter().map(|head| head.to_string()).collect();
        line(&mut head, &heads, &widths, |_| Paint::None);
        let row = |(texts, (cells, note)): (&Vec<String>, &(Vec<Cell>, Option<String>))| {
            let mut out = String::new();
            line(&mut out, texts, &widths, |index| if colour { cells[index].paint } else { Paint::None });
            if let Some(note) = note {
                wrapped(&mut out, note, width);
            }
            out
        };
        let rows = rows.iter().zip(&self.rows).map(row).collect();
        Printed { head, rows }
    }
}

/// Takes from the widest column first.
fn fit(widths: &mut [usize], width: usize) {
    loop {
        let total = widths.iter().sum::<usize>() + GAP * (widths.len() - 1);
        let Some(widest) = widths.iter_mut().max().filter(|widest| total > width && **widest > NARROWEST) else {
            return;
        };
        *widest -= 1;
    }
}

fn line(out: &mut String, texts: &[String], widths: &[usize], paint: impl Fn(usize) -> Paint) {
    let mut pending = 0;
    for (index, (text, width)) in texts.iter().zip(widths).enumerate() {
        let length = text.chars().count();
        let (text, length) = if length <= *width {
            (text.clone(), length)
        } else {
            (text.chars().take(width - 1).chain(['…']).collect(), *width)
        };
        // Written before the next cell, so that no line ends in spaces. A string takes everything: it cannot fail.
        let _ = write!(out, "{:pending$}", "");
        let _ = match paint(index) {
            Paint::None => write!(out, "{text}"),
            Paint::Green => write!(out, "\x1b[32m{text}\x1b[0m"),
            Paint::Yellow => write!(out, "\x1b[33m{text}\x1b[0m"),
            Paint::Red => write!(out, "\x1b[31m{text}\x1b[0m"),
        };
        pending = width - length + GAP;
    }
    out.push('\n');
}

fn wrapped(out: &mut String, note: &str, width: Option<usize>) {
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(INDENT.len()).max(NARROWEST));
    let mut used = 0;
    for word in note.split_whitespace() {
        let length = word.chars().count();
        if used == 0 {
            out.push_str(INDENT);
        } else if used + 1 + length > room {
            out.push('\n');
            out.push_str(INDENT);
            used = 0;
        } else {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out.push('\n');
}

/// What strangers wrote cannot command the terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_width_is_kept() {
        let mut table = Table::new(&["A", "B", "C"]);
        let hosts = ["a-very-long-name.example.com", "b.example.com", "c.example.com"].map(String::from).to_vec();
        table.push(vec![Cell::plain("live"), Cell::list(hosts), Cell::plain("docker/route/shop/web-of-things")], None);
        table.push(
            vec![Cell::plain("live"), Cell::list(vec![]), Cell::plain("x")],
            Some("one two three four five six seven"),
        );
        let printed = table.print(Some(40), false).whole();
        assert!(printed.lines().all(|line| line.chars().count() <= 40), "{printed}");
        assert!(printed.contains('…') && printed.contains("\n    one two"), "{printed}");
        let room = table.print(Some(200), false).whole();
        assert!(room.contains("a-very-long-name.example.com +2 "), "{room}");
        let free = table.print(None, false).whole();
        assert!(free.contains("a-very-long-name.example.com,b.example.com,c.example.com"), "{free}");
    }

    #[test]
    fn no_line_ends_in_spaces() {
        let mut table = Table::new(&["A", "LAST COLUMN"]);
        table.push(vec![Cell::plain("a"), Cell::plain("b")], Some("note"));
        assert!(table.print(None, true).whole().lines().all(|line| line == line.trim_end()));
    }
}
