//! The users of this machine and their groups, from `/etc/passwd` and `/etc/group`.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl LocalUser {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Self { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }

    fn find(is_it: impl Fn(&Self) -> bool) -> Option<Self> {
        let text = std::fs::read_to_string("/etc/passwd").ok()?;
        text.lines().filter_map(Self::parse).find(is_it)
    }

    /// Returns the user with a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::find(|user| user.name == name)
    }

    /// Returns the user with an id.
    pub(crate) fn of(uid: u32) -> Option<Self> {
        Self::find(|user| user.uid == uid)
    }

    /// Returns its groups, including its own.
    pub(crate) fn groups(&self) -> Vec<u32> {
        let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let group = |line: &str| {
            let mut fields = line.split(':').skip(2);
            let (gid, members) = (fields.next()?, fields.next()?);
            members.split(',').any(|member| member == self.name).then(|| gid.parse().ok())?
        };
        text.lines().filter_map(group).chain([self.gid]).collect()
    }
}

/// Formats a user: name and number, or the number alone.
pub(crate) fn user_shown(uid: u32) -> String {
    match LocalUser::of(uid) {
        Some(user) => format!("{} ({uid})", user.name),
        None => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_said_by_name_and_one_without_a_name_by_number() {
        assert_eq!(user_shown(0), "root (0)");
        assert_eq!(user_shown(4_000_000_000), "4000000000");
        let root = LocalUser::named("root").expect("there is root");
        assert!(root.groups().contains(&0));
    }
}
