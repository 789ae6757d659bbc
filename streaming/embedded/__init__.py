"""The embedded broker, and what every embedded part needs: child processes, Java and jars."""
