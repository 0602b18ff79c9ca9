//! Colours for people who look at a terminal, and for nobody else.

use std::io::IsTerminal;

use crate::config::environment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
}

/// Whether to write colours, decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Palette {
    is_on: bool,
}

impl Palette {
    /// For what goes to `to`: on where that is a terminal and `NO_COLOR` is not set.
    pub(super) fn of(to: &impl IsTerminal) -> Self {
        Self { is_on: to.is_terminal() && !environment::no_color() }
    }

    #[cfg(test)]
    pub(super) const fn fixed(is_on: bool) -> Self {
        Self { is_on }
    }

    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
            Colour::Dim => 2,
        };
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
