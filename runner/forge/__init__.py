"""Git and the forge (GitHub, Gitea, Forgejo, GitLab): commit statuses, pull requests, webhooks, the bot's identity."""
