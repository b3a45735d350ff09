//! A place in a JSON text that fits a schema: which byte may come next, whether the text may end, and its shortest end.
//!
//! A place is a set of stacks of what is still to be written, because a schema may leave open for a while which of its
//! alternatives a text is. **Invariant:** the top of each stack takes a byte; what takes none is unfolded at once.

use super::schema::{Node, Schema};

/// What a string is filled up with when it must end and is too short.
pub(super) const FILLER: u8 = b'-';
/// Alternatives that are followed at once. Leaving some out keeps a text from being them, never from fitting.
const MOST_STACKS: usize = 2048;
const MOST_DIGITS: u8 = 15;

/// A text so far.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    schema: &'a Schema,
    stacks: Vec<Stack>,
}

type Stack = Vec<Item>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Byte(u8),
    Literal { id: u32, at: u32 },
    Characters { least: u32, most: u32, inside: Inside },
    Integer { node: u32, negative: bool, digits: u8, value: u64 },
    Number(Digits),
    // What follows takes no byte and is unfolded.
    Value(u32),
    Properties { node: u32, next: u32, begun: bool },
    Items { node: u32, count: u32 },
}

/// Where in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Inside {
    Between,
    Escape,
    /// Inside a character: `more` bytes, the next of them within `low..=high`.
    Character {
        more: u8,
        low: u8,
        high: u8,
    },
}

/// Where in a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Digits {
    Start,
    Minus,
    Zero,
    Whole(u8),
    Point,
    Fraction(u8),
}

impl<'a> Text<'a> {
    /// A text of which nothing is written.
    pub fn new(schema: &'a Schema) -> Self {
        let mut stacks = Vec::new();
        unfold(schema, vec![Item::Value(schema.root)], &mut stacks);
        Self { schema, stacks }
    }

    /// A text that begins with a space, as behind a word: the tokens of most vocabularies have it in front.
    pub(crate) fn spaced(schema: &'a Schema) -> Self {
        Self { schema, stacks: vec![vec![Item::Value(schema.root), Item::Byte(b' ')]] }
    }

    /// The text with one more byte, or `None` if no fitting text goes on so.
    #[must_use]
    pub fn with(&self, byte: u8) -> Option<Self> {
        let mut stacks = Vec::new();
        for stack in &self.stacks {
            step(self.schema, stack, byte, &mut stacks);
        }
        if stacks.len() > 1 {
            stacks.sort_unstable();
            stacks.dedup();
            stacks.truncate(MOST_STACKS);
        }
        if stacks.is_empty() { None } else { Some(Self { schema: self.schema, stacks }) }
    }

    /// The text with these bytes, or `None`.
    #[must_use]
    pub fn with_all(&self, bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        rest.iter().try_fold(self.with(*first)?, |text, byte| text.with(*byte))
    }

    /// Whether the text fits as it is.
    pub fn complete(&self) -> bool {
        self.stacks.iter().any(|stack| ends(self.schema, stack))
    }

    /// Whether the text fits and nothing may follow.
    pub fn over(&self) -> bool {
        self.stacks.iter().all(Vec::is_empty)
    }

    /// The shortest end of the text; empty if it is complete.
    pub fn closing(&self) -> Vec<u8> {
        let ends = self.stacks.iter().map(|stack| closing(self.schema, stack));
        ends.min_by_key(Vec::len).unwrap_or_default()
    }

    /// Most characters that a string may still have, where the text is between two characters of one.
    pub(super) fn room_in_string(&self) -> Option<u32> {
        let room = |stack: &Stack| match stack.last() {
            Some(Item::Characters { most, inside: Inside::Between, .. }) => Some(*most),
            _ => None,
        };
        self.stacks.iter().filter_map(room).max()
    }

    /// The text without the alternatives that are between two characters of a string.
    pub(super) fn outside_strings(&self) -> Option<Self> {
        let inside = |stack: &&Stack| matches!(stack.last(), Some(Item::Characters { inside: Inside::Between, .. }));
        let stacks: Vec<Stack> = self.stacks.iter().filter(|stack| !inside(stack)).cloned().collect();
        if stacks.is_empty() { None } else { Some(Self { schema: self.schema, stacks }) }
    }
}

/// Replaces what takes no byte at the top by what it stands for, in all its alternatives.
fn unfold(schema: &Schema, mut stack: Stack, into: &mut Vec<Stack>) {
    if into.len() >= MOST_STACKS {
        return;
    }
    match stack.last().copied() {
        Some(Item::Value(node)) => {
            stack.pop();
            match &schema.nodes[node as usize] {
                Node::Literal(id) => stack.push(Item::Literal { id: *id, at: 0 }),
                Node::String { least, most } => {
                    stack.push(Item::Characters { least: *least, most: *most, inside: Inside::Between });
                    stack.push(Item::Byte(b'"'));
                }
                Node::Integer { .. } => stack.push(Item::Integer { node, negative: false, digits: 0, value: 0 }),
                Node::Number => stack.push(Item::Number(Digits::Start)),
                Node::Array { .. } => {
                    stack.push(Item::Items { node, count: 0 });
                    stack.push(Item::Byte(b'['));
                }
                Node::Object(_) => {
                    stack.push(Item::Properties { node, next: 0, begun: false });
                    stack.push(Item::Byte(b'{'));
                }
                Node::Any(nodes) => {
                    for node in nodes {
                        let mut one = stack.clone();
                        one.push(Item::Value(*node));
                        unfold(schema, one, into);
                    }
                    return;
                }
            }
            into.push(stack);
        }
        Some(Item::Properties { node, next, begun }) => {
            stack.pop();
            let Node::Object(properties) = &schema.nodes[node as usize] else { return };
            let rest = &properties[next as usize..];
            for (i, property) in (next..).zip(rest) {
                let mut one = stack.clone();
                one.push(Item::Properties { node, next: i + 1, begun: true });
                one.push(Item::Value(property.value));
                one.push(Item::Literal { id: if begun { property.later } else { property.first }, at: 0 });
                into.push(one);
                if property.required {
                    return;
                }
            }
            stack.push(Item::Byte(b'}'));
            into.push(stack);
        }
        Some(Item::Items { node, count }) => {
            stack.pop();
            let Node::Array { item, least, most } = &schema.nodes[node as usize] else { return };
            if count >= *least {
                let mut end = stack.clone();
                end.push(Item::Byte(b']'));
                into.push(end);
            }
            if count < *most {
                stack.push(Item::Items { node, count: count + 1 });
                stack.push(Item::Value(*item));
                if count > 0 {
                    stack.push(Item::Byte(b','));
                }
                unfold(schema, stack, into);
            }
        }
        _ => into.push(stack),
    }
}

/// Appends what a stack becomes by a byte.
fn step(schema: &Schema, stack: &Stack, byte: u8, into: &mut Vec<Stack>) {
    let Some((top, rest)) = stack.split_last() else { return };
    let mut replaced = |item: Option<Item>| {
        let mut stack = Vec::with_capacity(stack.len() + 4);
        stack.extend_from_slice(rest);
        match item {
            Some(item) => {
                stack.push(item);
                into.push(stack);
            }
            None => unfold(schema, stack, into),
        }
    };
    match *top {
        Item::Byte(expected) if expected == byte => replaced(None),
        Item::Literal { id, at } => {
            let literal = &schema.literals[id as usize];
            if literal[at as usize] == byte {
                let left = at as usize + 1 < literal.len();
                replaced(left.then_some(Item::Literal { id, at: at + 1 }));
            }
        }
        Item::Characters { least, most, inside } => {
            if inside == Inside::Between && byte == b'"' {
                if least == 0 {
                    replaced(None);
                }
            } else if let Some((inside, counts)) = inside.after(byte) {
                if counts && most == 0 {
                    return;
                }
                let least = least.saturating_sub(u32::from(counts));
                let most = if most == u32::MAX { most } else { most - u32::from(counts) };
                replaced(Some(Item::Characters { least, most, inside }));
            }
        }
        Item::Integer { node, negative, digits, value } => {
            let bounds = bounds(schema, node, negative || byte == b'-');
            match byte {
                b'-' if !negative && digits == 0 && bounds.is_some() => {
                    replaced(Some(Item::Integer { node, negative: true, digits, value }));
                }
                b'0'..=b'9' if digits == 0 || value > 0 => {
                    let value = value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
                    if bounds.is_some_and(|bounds| suffix(value, bounds).is_some()) {
                        replaced(Some(Item::Integer { node, negative, digits: digits.saturating_add(1), value }));
                    }
                }
                _ => after_number(schema, stack, byte, into),
            }
        }
        Item::Number(state) => match state.after(byte) {
            Some(state) => replaced(Some(Item::Number(state))),
            None => after_number(schema, stack, byte, into),
        },
        _ => {}
    }
}

/// A byte that is no digit ends a number, where the number may end.
fn after_number(schema: &Schema, stack: &Stack, byte: u8, into: &mut Vec<Stack>) {
    if !number_ends(schema, stack.last()) {
        return;
    }
    let mut next = Vec::new();
    unfold(schema, stack[..stack.len() - 1].to_vec(), &mut next);
    next.iter().for_each(|stack| step(schema, stack, byte, into));
}

fn number_ends(schema: &Schema, top: Option<&Item>) -> bool {
    match top {
        Some(Item::Integer { node, negative, digits, value }) => {
            *digits > 0 && bounds(schema, *node, *negative).is_some_and(|(least, most)| (least..=most).contains(value))
        }
        Some(Item::Number(state)) => matches!(state, Digits::Zero | Digits::Whole(_) | Digits::Fraction(_)),
        _ => false,
    }
}

fn ends(schema: &Schema, stack: &Stack) -> bool {
    stack.is_empty() || (stack.len() == 1 && number_ends(schema, stack.last()))
}

impl Inside {
    /// The place behind a byte that does not end the string, and whether a character was begun.
    fn after(self, byte: u8) -> Option<(Self, bool)> {
        let character = |more, low, high| Some((Inside::Character { more, low, high }, true));
        match (self, byte) {
            (Inside::Between, b'\\') => Some((Inside::Escape, true)),
            (Inside::Between, 0x20..=0x7f) => Some((Inside::Between, true)),
            (Inside::Between, 0xc2..=0xdf) => character(1, 0x80, 0xbf),
            (Inside::Between, 0xe0) => character(2, 0xa0, 0xbf),
            (Inside::Between, 0xed) => character(2, 0x80, 0x9f),
            (Inside::Between, 0xe1..=0xef) => character(2, 0x80, 0xbf),
            (Inside::Between, 0xf0) => character(3, 0x90, 0xbf),
            (Inside::Between, 0xf1..=0xf3) => character(3, 0x80, 0xbf),
            (Inside::Between, 0xf4) => character(3, 0x80, 0x8f),
            (Inside::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Some((Inside::Between, false)),
            (Inside::Character { more, low, high }, _) if (low..=high).contains(&byte) => match more {
                1 => Some((Inside::Between, false)),
                _ => Some((Inside::Character { more: more - 1, low: 0x80, high: 0xbf }, false)),
            },
            _ => None,
        }
    }
}

impl Digits {
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Digits::Start, b'-') => Some(Digits::Minus),
            (Digits::Start | Digits::Minus, b'0') => Some(Digits::Zero),
            (Digits::Start | Digits::Minus, b'1'..=b'9') => Some(Digits::Whole(1)),
            (Digits::Whole(count), b'0'..=b'9') if count < MOST_DIGITS => Some(Digits::Whole(count + 1)),
            (Digits::Zero | Digits::Whole(_), b'.') => Some(Digits::Point),
            (Digits::Point, b'0'..=b'9') => Some(Digits::Fraction(1)),
            (Digits::Fraction(count), b'0'..=b'9') if count < MOST_DIGITS => Some(Digits::Fraction(count + 1)),
            _ => None,
        }
    }
}

/// Least and most magnitude of an integer of one sign; zero has none but the positive.
fn bounds(schema: &Schema, node: u32, negative: bool) -> Option<(u64, u64)> {
    let Node::Integer { least, most } = &schema.nodes[node as usize] else { return None };
    let (least, most) = if negative { ((-most).max(1), -least) } else { (*least.max(&0), *most) };
    if least > most { None } else { Some((least.unsigned_abs(), most.unsigned_abs())) }
}

/// The shortest digits behind `value` that bring it within the bounds.
fn suffix(value: u64, (least, most): (u64, u64)) -> Option<Vec<u8>> {
    let mut scale = 1u64;
    for count in 0..=usize::from(MOST_DIGITS) + 1 {
        let first = value.checked_mul(scale)?;
        if first > most {
            return None;
        }
        let last = first.saturating_add(scale - 1);
        if last >= least {
            let rest = least.max(first) - first;
            return Some(if count == 0 { Vec::new() } else { format!("{rest:0count$}").into_bytes() });
        }
        if value == 0 {
            return None;
        }
        scale *= 10;
    }
    None
}

/// The shortest end of one stack.
fn closing(schema: &Schema, stack: &Stack) -> Vec<u8> {
    let mut end = Vec::new();
    for item in stack.iter().rev() {
        match *item {
            Item::Byte(byte) => end.push(byte),
            Item::Literal { id, at } => end.extend_from_slice(&schema.literals[id as usize][at as usize..]),
            Item::Characters { least, inside, .. } => {
                match inside {
                    Inside::Between => {}
                    Inside::Escape => end.push(b'\\'),
                    Inside::Character { more, low, .. } => {
                        end.push(low);
                        end.extend(std::iter::repeat_n(0x80, usize::from(more) - 1));
                    }
                }
                end.extend(std::iter::repeat_n(FILLER, least as usize));
                end.push(b'"');
            }
            Item::Integer { digits: 0, node, negative: false, .. } => end.extend_from_slice(&schema.shortest[node as usize]),
            Item::Integer { node, negative, digits, value } => {
                // A minus was only written where a negative number fits.
                let bounds = bounds(schema, node, negative).unwrap_or_default();
                let digits = if digits == 0 { bounds.0.to_string().into_bytes() } else { suffix(value, bounds).unwrap_or_default() };
                end.extend_from_slice(&digits);
            }
            Item::Number(Digits::Start | Digits::Minus | Digits::Point) => end.push(b'0'),
            Item::Number(_) => {}
            Item::Value(node) => end.extend_from_slice(&schema.shortest[node as usize]),
            Item::Properties { node, next, mut begun } => {
                if let Node::Object(properties) = &schema.nodes[node as usize] {
                    for property in properties[next as usize..].iter().filter(|property| property.required) {
                        let key = if begun { property.later } else { property.first };
                        end.extend_from_slice(&schema.literals[key as usize]);
                        end.extend_from_slice(&schema.shortest[property.value as usize]);
                        begun = true;
                    }
                }
                end.push(b'}');
            }
            Item::Items { node, count } => {
                if let Node::Array { item, least, .. } = &schema.nodes[node as usize] {
                    for count in count..*least {
                        end.extend_from_slice(if count > 0 { b"," } else { b"" });
                        end.extend_from_slice(&schema.shortest[*item as usize]);
                    }
                }
                end.push(b']');
            }
        }
    }
    end
}
