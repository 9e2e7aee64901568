//! Tokens ─▶ expression: `!` before `&&` before `||`, and parentheses. Not deeper than a stack can bear.

use crate::model::predicate::Test;

use super::RuleError;
use super::lexer::{Lexeme, Lexer, Token};
use super::matcher::Matcher;

/// Lists are flat: only parentheses nest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    Test(Test),
    Not(Box<Expr>),
    All(Vec<Expr>),
    Any(Vec<Expr>),
}

const DEPTH: usize = 64;
/// Each of them may compile to a megabyte.
const PATTERNS: usize = 64;

pub(super) fn parse(rule: &str) -> Result<Expr, RuleError> {
    let mut lexer = Lexer::new(rule);
    let next = lexer.next()?;
    let mut parser = Parser { lexer, next, patterns: 0 };
    if parser.next.lexeme == Lexeme::End {
        return Err(RuleError::new(0, "the rule is empty; write Host(`shop.example.com`)"));
    }
    let expr = parser.any(0)?;
    match parser.next.lexeme {
        Lexeme::End => Ok(expr),
        Lexeme::Close => Err(parser.unexpected("this ) closes nothing")),
        _ => Err(parser.unexpected("&& or || is missing here")),
    }
}

struct Parser<'r> {
    lexer: Lexer<'r>,
    next: Token<'r>,
    patterns: usize,
}

impl<'r> Parser<'r> {
    fn advance(&mut self) -> Result<Token<'r>, RuleError> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn skip(&mut self, lexeme: &Lexeme<'_>) -> Result<bool, RuleError> {
        let found = self.next.lexeme == *lexeme;
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn unexpected(&self, why: &str) -> RuleError {
        RuleError::new(self.next.at, why)
    }

    fn any(&mut self, depth: usize) -> Result<Expr, RuleError> {
        let first = self.all(depth)?;
        let mut rest = Vec::new();
        while self.skip(&Lexeme::Or)? {
            rest.push(self.all(depth)?);
        }
        Ok(joined(first, rest, Expr::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expr, RuleError> {
        let first = self.one(depth)?;
        let mut rest = Vec::new();
        while self.skip(&Lexeme::And)? {
            rest.push(self.one(depth)?);
        }
        Ok(joined(first, rest, Expr::All))
    }

    fn one(&mut self, depth: usize) -> Result<Expr, RuleError> {
        let mut negated = false;
        while self.skip(&Lexeme::Not)? {
            negated = !negated;
        }
        let Token { at, lexeme } = self.advance()?;
        let expr = match lexeme {
            Lexeme::Open if depth == DEPTH => {
                return Err(RuleError::new(at, format!("parentheses stand more than {DEPTH} deep")));
            }
            Lexeme::Open => {
                let inner = self.any(depth + 1)?;
                match self.next.lexeme {
                    Lexeme::Close => self.advance()?,
                    Lexeme::End => return Err(RuleError::new(at, "this ( lacks its closing )")),
                    _ => return Err(self.unexpected("&&, || or ) is missing here")),
                };
                inner
            }
            Lexeme::Name(name) => Expr::Test(self.call(at, name)?),
            Lexeme::Text(_) => return Err(RuleError::new(at, "a value stands within a matcher, as in Host(`…`)")),
            Lexeme::End => return Err(RuleError::new(at, "the rule ends where a matcher belongs")),
            _ => return Err(RuleError::new(at, "a matcher belongs here, such as Host(`…`)")),
        };
        Ok(if negated { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn call(&mut self, at: usize, name: &str) -> Result<Test, RuleError> {
        let matcher = Matcher::named(name).map_err(|why| RuleError::new(at, why))?;
        if !self.skip(&Lexeme::Open)? {
            return Err(self.unexpected(&format!("( is missing after {name}")));
        }
        let mut values = Vec::new();
        while self.next.lexeme != Lexeme::Close {
            let Token { at, lexeme } = self.advance()?;
            match lexeme {
                Lexeme::Text(text) => values.push(text),
                Lexeme::End => return Err(RuleError::new(at, format!("the closing ) of {name} is missing here"))),
                _ => return Err(RuleError::new(at, format!("a value of {name} stands in quotes: `…` or \"…\""))),
            }
            if self.next.lexeme != Lexeme::Close && !self.skip(&Lexeme::Comma)? {
                let missing = if self.next.lexeme == Lexeme::End { "the" } else { "a comma or the" };
                return Err(self.unexpected(&format!("{missing} closing ) of {name} is missing here")));
            }
        }
        self.advance()?;
        if matcher.is_pattern() {
            self.patterns += 1;
            if self.patterns > PATTERNS {
                let why = format!("the rule has more than {PATTERNS} regular expressions; write a|b within one");
                return Err(RuleError::new(at, why));
            }
        }
        matcher.test(&values).map_err(|why| RuleError::new(at, why))
    }
}

fn joined(first: Expr, rest: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    if rest.is_empty() {
        return first;
    }
    join(std::iter::once(first).chain(rest).collect())
}
