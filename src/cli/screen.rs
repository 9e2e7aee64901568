//! A terminal's second screen: what stood on the first is there again at the end.

use std::env;
use std::io::{self, Write};

const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
/// Where neither the terminal nor the shell tells.
const USUAL: (usize, usize) = (80, 24);

/// Closed when dropped.
pub(super) struct Screen {
    drawn: String,
}

impl Screen {
    pub fn open() -> Screen {
        Screen { drawn: String::new() }
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        let told = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let shell = |name: &str| env::var(name).ok().and_then(|size| size.parse().ok());
        let size = |told: Option<u16>, name: &str, usual: usize| {
            told.filter(|size| *size > 0)
                .map(usize::from)
                .or_else(|| shell(name))
                .filter(|size| *size > 0)
                .unwrap_or(usual)
        };
        (size(told.map(|t| t.ws_col), "COLUMNS", USUAL.0), size(told.map(|t| t.ws_row), "LINES", USUAL.1))
    }

    /// These lines and nothing else; what is there already is not drawn again.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        let (width, height) = self.size();
        let mut drawing = String::from(HOME);
        // Without an end of the last line: a full screen would scroll.
        for (index, line) in text.lines().take(height).enumerate() {
            drawing.push_str(if index > 0 { "\r\n" } else { "" });
            drawing.push_str(&cut(line, width));
            drawing.push_str(CLEAR_LINE);
        }
        drawing.push_str(CLEAR_BELOW);
        if drawing == self.drawn {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if self.drawn.is_empty() {
            out.write_all(OPEN.as_bytes())?;
        }
        out.write_all(drawing.as_bytes())?;
        out.flush()?;
        self.drawn = drawing;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if !self.drawn.is_empty() {
            // A terminal that is gone needs no tidying.
            let mut out = io::stdout().lock();
            let _ = out.write_all(CLOSE.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// The first columns of a line; the colours in it take none.
fn cut(line: &str, width: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut used, mut colour) = (0, false);
    for c in line.chars() {
        if colour || c == '\x1b' {
            out.push(c);
            colour = c != 'm';
        } else if used < width {
            out.push(c);
            used += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_at_the_width_and_its_colour_ends() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("äbcd", 3), "äbc");
        assert_eq!(cut("\x1b[31merror\x1b[0m  x", 3), "\x1b[31merr\x1b[0m");
    }
}
