//! The words of a rule: td-exec(8), "THE POLICY".

use crate::ids::policy::program::{answer, code};
use crate::say::flags;
use crate::say::number::{decimal, hexadecimal};
use crate::say::show;

/// The word that is wrong, and what it should be.
pub type Wrong<'a> = (&'a [u8], &'static str);

/// A test that a rule makes before it decides.
pub enum Test {
    /// Does the set of capabilities have this one? It is known when the policy is compiled.
    Capability { number: u64, held: bool },
    /// An argument: `(argument & mask) COMPARED value`, or its opposite.
    Argument { index: u8, mask: u64, compared: u16, value: u64, opposite: bool },
}

/// What seccomp(2) answers to a call, with its data.
pub fn answer(word: &[u8]) -> Option<u32> {
    match word {
        b"allow" => Some(answer::ALLOW),
        b"log" => Some(answer::LOG),
        b"kill" => Some(answer::KILL_PROCESS),
        name => Some(answer::ERRNO | show::errno_of(name)? as u32),
    }
}

/// `[not] CAP_NAME`, `argN OPERATOR VALUE`, `argN & MASK [OPERATOR VALUE]`.
pub fn test<'a>(words: &[&'a [u8]]) -> Result<Test, Wrong<'a>> {
    let (first, rest) = words.split_first().ok_or((&b"if"[..], "a test is missing"))?;
    if let (b"not", [name]) = (*first, rest) {
        return Ok(Test::Capability { number: capability(name)?, held: false });
    }
    if first.starts_with(b"CAP_") && rest.is_empty() {
        return Ok(Test::Capability { number: capability(first)?, held: true });
    }
    let index = match first {
        [b'a', b'r', b'g', digit @ b'0'..=b'5'] => digit - b'0',
        _ => return Err((*first, "not a test: argN, CAP_NAME or not CAP_NAME")),
    };
    let (mask, rest) = match rest {
        [b"&", mask, rest @ ..] => (number(mask)?, rest),
        _ => (u64::MAX, rest),
    };
    let (operator, value) = match rest {
        [operator, value] => (*operator, number(value)?),
        [] if mask != u64::MAX => (&b"!="[..], 0), // any of these bits
        _ => return Err((*first, "a test is: argN OPERATOR VALUE, or argN & MASK")),
    };
    let (compared, opposite) = match operator {
        b"=" => (code::JEQ, false),
        b"!=" => (code::JEQ, true),
        b">" => (code::JGT, false),
        b"<=" => (code::JGT, true),
        b">=" => (code::JGE, false),
        b"<" => (code::JGE, true),
        _ => return Err((operator, "not an operator: = != < <= > >=")),
    };
    Ok(Test::Argument { index, mask, compared, value, opposite })
}

fn capability(word: &[u8]) -> Result<u64, Wrong<'_>> {
    let known = flags::CAPS.iter().find(|(_, name)| name.as_bytes() == word);
    known.map(|(number, _)| number).ok_or((word, "not a capability"))
}

/// A number, in decimal or with 0x.
pub fn number(word: &[u8]) -> Result<u64, Wrong<'_>> {
    let number = if word.starts_with(b"0x") { hexadecimal(word) } else { decimal(word) };
    number.ok_or((word, "not a number, decimal or with 0x"))
}
