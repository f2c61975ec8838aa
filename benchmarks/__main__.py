"""`make bench`: run every benchmark."""

from benchmarks import engines, environment

if __name__ == "__main__":
    print(environment.describe())
    engines.main()
