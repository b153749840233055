//! Enums whose values are words: in the database, in JSON, in the configuration.

/// Defines an enum with a word for each value, and with a sentence for people where one is given.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal, $sentence:literal;)+ }
    ) => {
        words! { $(#[$attribute])* pub enum $name { $($(#[$doc])* $value = $word;)+ } }

        impl $name {
            /// Says it to an operator.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$value => $sentence,)+
                }
            }
        }
    };
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal;)+ }
    ) => {
        $(#[$attribute])*
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $name {
            /// Every value, in the order of their definition.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$value),+];

            /// Returns the word: kept in the database, and shown.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }

            /// Reads what [`Self::as_str`] wrote.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.as_str() == word)
            }
        }
    };
}

pub(crate) use words;
