//! Enums whose values are words in the database, in JSON and in the configuration.

/// Defines an enum with a word for each value, and with a sentence for people where one is given.
macro_rules! words {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident { $($(#[$doc:meta])* $value:ident = $word:literal, $sentence:literal;)+ }
    ) => {
        words! { $(#[$attribute])* pub enum $name { $($(#[$doc])* $value = $word;)+ } }

        impl $name {
            /// Returns a sentence for operators.
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
            /// Every value, in the order of definition.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$value),+];

            /// Returns the word that is stored and shown.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $word,)+
                }
            }

            /// Parses a word of [`Self::as_str`].
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.as_str() == word)
            }
        }
    };
}

pub(crate) use words;
