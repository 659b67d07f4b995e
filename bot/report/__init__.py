"""What a person looks at: pages, terminal, notifications."""
